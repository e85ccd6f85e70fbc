"""How near is the same: the tolerances of the tests, each with what it allows for.

A bound of one test alone, which says how good something is and not how exact, stands in that test.
"""

# Arithmetic, absolute for numbers of order 1 or relative.
FLOAT64_EXACT = 1e-9  # one formula in float64, summed in another order
FLOAT64_DISTANCE = 1e-6  # Fréchet distances: roots of eigenvalues that are zero but for rounding
FLOAT32_EXACT = 1e-5  # one step of float32 in another order: another batch, window or layout of memory
FLOAT32_NETWORK = 1e-4  # some tens of layers of float32, against another implementation
FLOAT32_GEOMETRY = 1e-3  # places in a picture of some hundred pixels
FLOAT16_CURVES = 0.02  # curves of a stream: float16 up to 32, and a difference of two of them
CONVERGED = 2e-3  # two descents into the same minimum

# Pictures.
DECODER_RELATIVE = 1e-5  # rms of the compiled decoder's error over the picture's own deviation
WINOGRAD_RELATIVE = 5e-5  # largest error of a convolution by F(4x4, 3x3) over its largest number
DECODER_DB = 60.0  # PSNR of its bytes: some of them rounded to the other side
DEVICE_DB = 40.0  # PSNR of a render by another device, whose convolutions may round to TF32

# Places and turns, found in pictures.
PIXELS = 1.5  # corners and landmarks after scaling, coding or another reading of the picture
SUBPIXEL = 0.15  # registration, rms over the rigid head at 256x256
DEGREES = 0.3  # the head's roll, by registration
