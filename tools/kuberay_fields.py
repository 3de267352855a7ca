"""Write src/spanwise/render/data/kuberay-fields.json from KubeRay's CustomResourceDefinitions.

    python tools/kuberay_fields.py VERSION FOLDER

FOLDER holds ray.io_rayservices.yaml and ray.io_rayclusters.yaml of that KubeRay version. The compact form (field
names, types, required, allowed values, bounds, keys of lists; equal subtrees kept once) is what `lint` uses where no CRD
is given; a test compares it with the CRDs.
"""

from __future__ import annotations

import sys
from pathlib import Path

from spanwise.render.lint.compact import compact_text

TARGET = Path(__file__).resolve().parent.parent / "src" / "spanwise" / "render" / "data" / "kuberay-fields.json"

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    version, folder = sys.argv[1], Path(sys.argv[2])
    crds = [(folder / f"ray.io_{name}.yaml").read_text(encoding="utf-8") for name in ("rayservices", "rayclusters")]
    TARGET.write_text(compact_text(version, crds), encoding="utf-8")
    sys.stderr.write(f"wrote {TARGET}\n")
