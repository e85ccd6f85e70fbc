"""The package that the face mesh is in, and how it is had: `mien.face.mesh` runs it, `mien doctor` looks for it.

Its own requirements conflict with mien's, so that no package index can resolve both: mien's name those of them that the
mesh uses, and the package itself is installed without them. Releases from 0.10.30 on hold no model files.
"""

from __future__ import annotations

MESH_INSTALL = "python -m pip install --no-deps mediapipe==0.10.21"
MESH_FILE = "modules/face_landmark/face_landmark_with_attention.tflite"  # within the package
