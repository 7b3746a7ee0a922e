"""The pictures of the demo that are kept in the repository: `python docs/generators/pictures.py out/demo`.

`demo.gif` is every fourth frame of the demo's video, at twice its speed; `tokens.png` is one plan of the demo's bag,
the tokens that each criterion of SQAP-VLA chose added one after the other; `examples/drawer.png` is the camera image
that it was planned from.
"""

import sys
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from rosbags.highlevel import AnyReader

from sqap_vla_ros.core.token_selection import Reason
from sqap_vla_ros.perception.images import decode
from sqap_vla_ros.reporting.overlay import Overlay, draw_overlay

IMAGES = Path(__file__).resolve().parents[1] / "images"
_GIF_WIDTH, _GIF_EVERY, _GIF_COLOURS = 400, 4, 128
_PANELS = (
    ("camera image", 0),
    ("1. attention", Reason.ATTENTION),
    ("2. and the ring", Reason.ATTENTION | Reason.RING),
    ("3. and farthest points", Reason.ATTENTION | Reason.RING | Reason.SPATIAL),
)


def demo_gif(video: Path) -> None:
    """The demo as a moving picture."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        seconds = float(1 / (stream.average_rate or 20))
        pictures = [frame.to_image() for frame in container.decode(stream)][::_GIF_EVERY]
    height = round(pictures[0].height * _GIF_WIDTH / pictures[0].width)
    small = [picture.resize((_GIF_WIDTH, height), Image.Resampling.LANCZOS) for picture in pictures]
    palette = small[len(small) // 2].quantize(_GIF_COLOURS, Image.Quantize.MEDIANCUT)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in small]
    milliseconds = [round(500 * seconds * _GIF_EVERY)] * len(frames)
    milliseconds[-1] = 1500
    IMAGES.mkdir(exist_ok=True)
    path = IMAGES / "demo.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, optimize=True)


def tokens(bag: Path, share: float = 0.3) -> None:
    """One plan's kept tokens, criterion by criterion, of the plan at this share of the recording."""
    with AnyReader([bag]) as reader:
        masks = [
            reader.deserialize(raw, connection.msgtype)
            for connection, _, raw in reader.messages([c for c in reader.connections if "token_mask" in c.topic])
        ]
        mask = masks[int(share * len(masks))]
        images = [
            c for c in reader.connections if c.msgtype in ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
        ]
        image = next(
            message
            for connection, _, raw in reader.messages(images)
            if (message := reader.deserialize(raw, connection.msgtype)).header.stamp == mask.header.stamp
        )
    reasons = np.asarray(mask.reason, np.uint8).reshape(mask.rows, mask.columns)
    tool_px = np.array([mask.tool_u, mask.tool_v])
    print(f"the tool projects to {tool_px}")
    Image.fromarray(decode(image)).save(IMAGES.parents[1] / "examples" / "drawer.png", optimize=True)
    panels = [_panel(decode(image), reasons & np.uint8(shown), tool_px, text) for text, shown in _PANELS]
    grid = np.vstack([np.hstack(panels[:2]), np.hstack(panels[2:])])
    Image.fromarray(grid).quantize(128).save(IMAGES / "tokens.png", optimize=True)


def _panel(
    image: NDArray[np.uint8], reasons: NDArray[np.uint8], tool_px: NDArray[np.float64], text: str
) -> NDArray[np.uint8]:
    picture = Image.fromarray(draw_overlay(image, Overlay(reasons if reasons.any() else None, tool_px), 415))
    line = f"{text}: {np.count_nonzero(reasons)} of {reasons.size} tokens" if reasons.any() else text
    canvas = Image.new("RGB", (picture.width + 8, picture.height + 30), "white")
    canvas.paste(picture, (4, 26))
    ImageDraw.Draw(canvas).text((6, 4), line, "black", ImageFont.load_default(16))
    return np.asarray(canvas)


if __name__ == "__main__":
    demo = Path(sys.argv[1])
    demo_gif(demo / "demo.mp4")
    tokens(demo / "bag")
