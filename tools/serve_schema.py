"""Write src/spanwise/render/data/serve-schema.json from the Ray that is installed.

    python tools/serve_schema.py            write the file
    python tools/serve_schema.py --print    print it instead

`lint` must know a Serve config's fields where no Ray is installed, so Ray's own schema is kept as data, without its
descriptions. A test compares the file with the installed Ray.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

from spanwise.render.lint.serve_schema import reduced

TARGET = Path(__file__).resolve().parent.parent / "src" / "spanwise" / "render" / "data" / "serve-schema.json"


def text() -> str:
    """The data file for the installed Ray, one definition a line."""
    from ray.serve.schema import ServeDeploySchema

    schema = reduced(ServeDeploySchema.model_json_schema())
    definitions = ",\n".join(
        f"      {json.dumps(name)}: {json.dumps(node)}" for name, node in sorted(schema.pop("$defs").items())
    )
    head = f'{{\n  "ray": {json.dumps(metadata.version("ray"))},\n  "schema": {{\n    "$defs": {{\n{definitions}\n    }},\n'
    rest = ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in sorted(schema.items()))
    return f"{head}{rest}\n  }}\n}}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--print"]:
        sys.stdout.write(text())
    else:
        TARGET.write_text(text(), encoding="utf-8")
        sys.stderr.write(f"wrote {TARGET}\n")
