"""Registration of a frame to a key frame by a parametric model of the optical flow of the rigid head.

Black and Yacoob (1997) describe the motion of a face region by a low-order model (affine; planar with eight
parameters), estimated with a robust norm, from coarse to fine, the scale of the norm lowered on the way. This is that
estimate in inverse compositional form (Baker and Matthews 2004): gradients and parameter derivatives are those of the
key frame's template and are computed once per key frame, and a planar motion is held as a homography, of which the
eight-parameter flow is the first order, so that motions compose exactly.

    minimise over H, a, b   sum over x in the mask of   rho(I(H x) - (1 + a) T(x) - b; sigma)
    rho = Geman and McClure's  e^2 / (sigma^2 + e^2)

a and b take up a change of the light. x is in normalised coordinates of the key frame's crop (-1 to 1,
`crop_geometry`), and H maps them to where the same skin is in the other frame, in the same coordinates: H is the
identity if the head stands still in the frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.face import mesh as lm
from mien.method.stage1_align.crop_geometry import apply, crop_from_matrix, matrix_from_crop
from mien.method.stage1_align.tracking import Window

Array = NDArray[np.float64]
Image = NDArray[np.uint8]
Plane = NDArray[np.float32]

TEMPLATE = 192  # side of the finest template in pixels; a smaller face takes a smaller one
LEVELS = 4
COARSEST = 20  # no level is smaller than this
MARGIN = 1.5  # the part of the frame that is kept for registration is this many times the crop
BLUR = 0.8  # sigma, in template pixels, against noise and the interpolation's own error
MODELS = ("translation", "similarity", "affine", "planar")  # each is a case of the next
SIGMA_FLOOR = 1.5  # grey levels
CONTRAST = 0.5  # a residual of this part of the template's standard deviation counts for a quarter
LEAST_GAIN = 0.6  # a picture with less than this of the template's contrast is not it
ITERATIONS = 10
STILL = 2e-3  # template pixels: an update smaller than this ends a level
NEIGHBOUR = 1  # the level, counted from the finest, at which a frame is registered to the one before it
CHUNK = 2048  # rows of a matrix product: more of them and BLAS would start threads that cost more than they give


@dataclass(frozen=True)
class Pyramid:
    """The surroundings of a face in grey, from fine to coarse, and the `[3, 3]` from frame pixels to each level's."""

    levels: tuple[Plane, ...]
    matrices: tuple[Array, ...]


@dataclass(frozen=True)
class Level:
    """One level of a template, N mask points."""

    points: Array  # [N, 2] normalised coordinates of the key frame's crop
    values: Plane  # [N] grey levels
    gradients: Plane  # [N, 2] grey levels per normalised unit
    pixel: float  # side of a pixel in normalised units


@dataclass(frozen=True)
class Template:
    """A key frame: its crop `[4]` and the rigid head's pixels from fine to coarse.

    `anchors` are normalised points `[M, 2]` of the mask that hold the crop, and `hold` says how much each counts: by
    the size of its gradient, because what stands out is what is seen to move.
    """

    crop: Array
    levels: tuple[Level, ...]
    anchors: Array
    hold: Array  # [M]


@dataclass(frozen=True)
class Registration:
    """`homography` `[3, 3]` in normalised coordinates of the key frame's crop; `residual`: robust rms of what is left,
    in grey levels; `support`: how far the mask's points are explained, 0 (not at all) to 1, against the template's own
    contrast; `overlap`: part of them inside the frame."""

    homography: Array
    residual: float
    support: float
    overlap: float


def template_size(crop: Array) -> int:
    """Side of the finest template: no larger than the face has pixels."""
    return int(np.clip(np.exp(crop[2]) // 16 * 16, 64, TEMPLATE))


def pyramid(frame: Image, crop: Array) -> Pyramid:
    """Grey levels around a crop `[4]` of an RGB frame `[H, W, 3]`, reduced by a whole factor so that a finest pixel is
    between a half and a whole pixel of a template."""
    side = float(np.exp(crop[2]))
    size = template_size(crop)
    window = Window.around(crop[:2], side * MARGIN * 1.1, (frame.shape[1], frame.shape[0]))
    factor = max(int(side // size), 1)
    # Aligned to the factor's grid, so that a moving window does not shift the reduced picture's pixels.
    left, top = window.left // factor * factor, window.top // factor * factor
    part = cv2.cvtColor(np.ascontiguousarray(frame[top : window.bottom, left : window.right]), cv2.COLOR_RGB2GRAY)
    if factor > 1:
        height, width = part.shape[0] // factor * factor, part.shape[1] // factor * factor
        part = cv2.resize(
            part[:height, :width].astype(np.float32), (width // factor, height // factor), interpolation=cv2.INTER_AREA
        )
    fine = cast(Plane, cv2.GaussianBlur(part.astype(np.float32), (0, 0), BLUR * side / factor / size))
    shift = (factor - 1) / 2
    matrix = np.array([[1 / factor, 0, -(left + shift) / factor], [0, 1 / factor, -(top + shift) / factor], [0, 0, 1]])
    levels, matrices = [fine], [matrix]
    for _ in range(LEVELS - 1):
        if min(levels[-1].shape) < 24:
            break
        levels.append(cast(Plane, cv2.pyrDown(levels[-1])))
        matrices.append(np.diag([0.5, 0.5, 1.0]) @ matrices[-1])
    return Pyramid(tuple(levels), tuple(matrices))


def rigid_mask(points: Array, size: int) -> NDArray[np.bool_]:
    """The part of a crop `[size, size]` that moves as the head does: forehead, temples, nose, upper cheeks.

    `points`: a mesh `[478, 2]` in normalised coordinates of the crop. Eyes, brows and all below the nose are left out.
    """
    pixels = (points + 1) * size / 2 - 0.5
    mask = np.zeros((size, size), np.uint8)
    poly = lambda ids: (pixels[ids] * 16).round().astype(np.int32)
    cv2.fillPoly(mask, [poly(lm.FACE_OVAL)], 1, shift=4)
    eyes = pixels[lm.EYE_CORNERS].mean(1)
    unit = float(np.hypot(*(eyes[1] - eyes[0])))
    hole: Image = np.zeros_like(mask)
    for region in (*lm.EYES, *lm.BROWS):
        cv2.fillConvexPoly(hole, cv2.convexHull(poly(region)), 1, shift=4)
    grow = max(round(0.09 * unit), 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
    hole = cast(Image, cv2.dilate(hole, disc))
    # Below the nose's base, across the face at right angles to the line from the base to the bridge.
    down = pixels[2] - pixels[168]
    down = down / max(float(np.hypot(*down)), 1e-9)
    y, x = np.mgrid[0:size, 0:size]
    below = (x - pixels[2, 0]) * down[0] + (y - pixels[2, 1]) * down[1] > 0
    return (mask > 0) & (hole == 0) & ~below


def _inverse(matrix: Array) -> Array:
    return cast(Array, np.linalg.inv(matrix))


def sample(image: Plane, x: Array, y: Array) -> tuple[Plane, NDArray[np.bool_]]:
    """Bilinear values of an image at pixel positions, and which of them lie inside. (OpenCV's own remapping rounds
    positions to 1/32 of a pixel, which is what is measured here.)"""
    height, width = image.shape
    inside = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
    x0 = np.clip(np.floor(x), 0, width - 2).astype(np.int32)
    y0 = np.clip(np.floor(y), 0, height - 2).astype(np.int32)
    fx = np.clip(x - x0, 0.0, 1.0).astype(np.float32)
    fy = np.clip(y - y0, 0.0, 1.0).astype(np.float32)
    flat = image.ravel()
    corner = y0 * width + x0
    a, b = flat[corner], flat[corner + 1]
    c, d = flat[corner + width], flat[corner + width + 1]
    top = a + (b - a) * fx
    return top + (c + (d - c) * fx - top) * fy, inside


def make_template(picture: Pyramid, crop: Array, mesh: Array) -> Template:
    """The template of a key frame: `picture` of its frame, its crop `[4]`, its mesh `[478, 2 or 3]` in frame pixels."""
    to_frame = matrix_from_crop(crop)
    points = apply(_inverse(to_frame), np.asarray(mesh)[:, :2])
    finest = template_size(crop)
    levels = []
    for level, (image, matrix) in enumerate(zip(picture.levels, picture.matrices, strict=True)):
        size = finest >> level
        if size < COARSEST:
            break
        levels.append(_template_level(image, matrix @ to_frame, points, size))
    middle = levels[min(NEIGHBOUR, len(levels) - 1)]
    return Template(crop=crop, levels=tuple(levels), anchors=middle.points, hold=_hold(middle))


def _template_level(image: Plane, to_level: Array, mesh: Array, size: int) -> Level:
    """The rigid head's pixels of a crop `[size, size]`; `mesh` `[478, 2]` in its normalised coordinates."""
    centres = (np.arange(size) + 0.5) * 2 / size - 1
    x, y = (grid.ravel() for grid in np.meshgrid(centres, centres))
    place = apply(to_level, np.stack([x, y], 1))
    values, inside = sample(image, place[:, 0], place[:, 1])
    dy, dx = np.gradient(values.reshape(size, size), 2 / size)
    # A pixel's gradient needs its neighbours inside the frame too.
    core = cv2.erode(inside.reshape(size, size).astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0) > 0
    keep = np.flatnonzero((rigid_mask(mesh, size) & core).ravel())
    return Level(
        points=np.stack([x[keep], y[keep]], 1),
        values=values[keep],
        gradients=np.stack([dx.ravel()[keep], dy.ravel()[keep]], 1).astype(np.float32),
        pixel=2 / size,
    )


def _hold(level: Level) -> Array:
    """`[N]`: how much each point counts where a motion is reduced to a similarity; see `Template`."""
    energy = np.square(level.gradients.astype(np.float64)).sum(1)
    if len(energy):
        energy = np.minimum(energy, np.percentile(energy, 90)) + 0.02 * energy.mean() + 1e-6
    return np.sqrt(energy)


def derivatives(level: Level, model: str) -> Plane:
    """`[N, P]`: change of the template's values per parameter of the motion model, in Black and Yacoob's terms."""
    x, y = level.points.astype(np.float32).T
    gx, gy = level.gradients.T
    if model == "translation":
        columns = [gx, gy]
    elif model == "similarity":
        columns = [gx, gy, gx * x + gy * y, gy * x - gx * y]
    else:
        columns = [gx, gy, gx * x, gx * y, gy * x, gy * y]
        if model == "planar":
            along = gx * x + gy * y
            columns += [x * along, y * along]
    return np.stack(columns, 1)


def motion_matrix(parameters: Array, model: str) -> Array:
    """`[3, 3]` of the motion model's parameters in normalised coordinates; to first order x + u(x) with
    u = a0 + a1 x + a2 y + p0 x^2 + p1 x y,  v = a3 + a4 x + a5 y + p0 x y + p1 y^2."""
    matrix = np.eye(3)
    matrix[:2, 2] = parameters[:2]
    if model == "similarity":
        s, r = parameters[2:4]
        matrix[:2, :2] += [[s, -r], [r, s]]
    elif model in ("affine", "planar"):
        matrix[:2, :2] += parameters[2:6].reshape(2, 2)
        if model == "planar":
            matrix[2, :2] -= parameters[6:8]
    return matrix


def register(
    template: Template, picture: Pyramid, initial: Array | None = None, *, model: str = "planar"
) -> Registration:
    """Where the template's skin is in another frame. `initial`: a first guess `[3, 3]`, the identity by default.

    The coarsest level fits a similarity, the next an affine motion, the finest two `model`: "translation",
    "similarity", "affine" or "planar".
    """
    motion = np.eye(3) if initial is None else initial.copy()
    to_frame = matrix_from_crop(template.crop)
    residual = support = overlap = 0.0
    for index in reversed(range(min(len(template.levels), len(picture.levels)))):
        allowed = MODELS.index(model)
        at_level = MODELS[min(allowed, 1 if index >= 3 else 2 if index == 2 else 3)]
        motion, residual, support, overlap = _fit(
            template.levels[index], picture.levels[index], picture.matrices[index] @ to_frame, motion, at_level
        )
        if overlap < 0.3:
            break
    return Registration(motion, residual, support, overlap)


def _fit(level: Level, image: Plane, to_level: Array, motion: Array, model: str) -> tuple[Array, float, float, float]:
    """Gauss-Newton with Geman and McClure's weights at one level. Returns motion, residual, support, overlap."""
    count = len(level.points)
    if count < 30:
        return motion, float("inf"), 0.0, 0.0
    slopes = derivatives(level, model)
    moving = slopes.shape[1]
    # The last two columns are the light: a gain (on the template's values about their mean) and an offset.
    basis = np.concatenate(
        [slopes, (level.values - level.values.mean())[:, None], np.ones((count, 1), np.float32)], 1
    ).astype(np.float32)
    step = np.zeros(moving + 2)
    weights = np.ones(count, np.float32)
    residual = overlap = 0.0
    for iteration in range(ITERATIONS):
        place = apply(to_level @ motion, level.points)
        values, inside = sample(image, place[:, 0], place[:, 1])
        difference = values - level.values
        light = basis[:, moving:] @ step[moving:].astype(np.float32)
        left = difference - light if iteration else difference - np.median(difference[inside] if inside.any() else 0)
        overlap = float(inside.mean())
        if overlap < 0.3:
            return motion, float("inf"), 0.0, overlap
        # Graduated non-convexity: the norm's scale starts at three times its last value and falls with the iterations.
        spread = 1.4826 * float(np.median(np.abs(left[inside])))
        scale = max(2.0 * spread, SIGMA_FLOOR) * max(3.0 - iteration, 1.0)
        weights = np.where(inside, np.square(scale**2 / (scale**2 + np.square(left))), 0).astype(np.float32)
        weighted = basis * weights[:, None]
        normal, right = _products(weighted, basis, difference)
        normal[np.diag_indices_from(normal)] *= 1 + 1e-6
        step = cast(Array, np.linalg.lstsq(normal, right, rcond=None)[0])
        # The step is the motion of the template that would make it look like the picture as it was sampled: undo it.
        motion = motion @ _inverse(motion_matrix(step[:moving], model))
        motion = motion / motion[2, 2]
        residual = float(np.sqrt((weights * np.square(left)).sum() / max(float(weights.sum()), 1e-9)))
        if iteration >= 3 and float(np.abs(step[:moving]).max()) < STILL * level.pixel:
            break
    # The robust scale follows the residuals, so that the weights alone do not tell a good fit from a bad one; nor does
    # the residual, where the light's gain has explained the template away.
    gain = max(1.0 + float(step[moving]), 0.0)
    contrast = max(CONTRAST * gain * float(level.values.std()), 2 * SIGMA_FLOOR)
    support = float(np.where(inside, np.square(1 / (1 + np.square(left / contrast))), 0).mean())
    support *= min(gain / LEAST_GAIN, 1.0)
    return motion, residual, support, overlap


def _products(weighted: Plane, basis: Plane, difference: Plane) -> tuple[Array, Array]:
    """`weighted.T @ basis` and `weighted.T @ difference` of N rows."""
    normal = np.zeros((basis.shape[1], basis.shape[1]))
    right = np.zeros(basis.shape[1])
    for start in range(0, len(basis), CHUNK):
        rows = slice(start, start + CHUNK)
        normal += weighted[rows].T @ basis[rows]
        right += weighted[rows].T @ difference[rows]
    return normal, right


def neighbour(before: Pyramid, crop: Array, mesh: Array, picture: Pyramid, guess: Array) -> tuple[Array, float]:
    """Where the skin that a crop `[4]` holds in one frame (`before`, with its mesh `[478, 2 or 3]`) is in the next
    one: the crop `[4]` there, and the support as in `Registration`. `guess`: a crop within a pixel or two of it.

    Two neighbours have the same light, pose and expression, so that this tells the motion between them more finely
    than registration to a key frame does; added up, it would drift.
    """
    to_frame = matrix_from_crop(crop)
    last = min(len(before.levels), len(picture.levels)) - 1
    index = min(NEIGHBOUR, last)
    size = template_size(crop) >> index
    points = apply(_inverse(to_frame), np.asarray(mesh)[:, :2])
    level = _template_level(before.levels[index], before.matrices[index] @ to_frame, points, size)
    start = _inverse(to_frame) @ matrix_from_crop(guess)
    to_level = picture.matrices[index] @ to_frame
    motion, _, support, _ = _fit(level, picture.levels[index], to_level, start, "planar")
    if support == 0:
        return guess, 0.0
    return nearest_similarity(to_frame @ motion, Template(crop, (level,), level.points, _hold(level))), support


def nearest_similarity(matrix: Array, template: Template) -> Array:
    """The crop `[4]` of the similarity that is nearest, over the template's anchors, to a map `[3, 3]` from normalised
    coordinates to frame pixels."""
    moved = apply(matrix, template.anchors)
    scale, rotation, shift = lm.fit_similarity(template.anchors, moved, template.hold)
    whole = np.eye(3)
    whole[:2, :2] = scale * rotation
    whole[:2, 2] = shift
    return crop_from_matrix(whole)
