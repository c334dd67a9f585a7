#!/usr/bin/env python3
"""A file of TensorBoard's own making, for tests/train/test_events.c: tests/golden/events.tfevents.

Three records: numbers and a picture of a step, the start of a session, the form's version.

Ran with tensorboard 2.21.0, protobuf 7.36.2.

usage: scripts/reference/events.py
"""
import os

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

value, image = Summary.Value, Summary.Image
picture = image(height=64, width=130, colorspace=3, encoded_image_string=b"\x89PNG")
events = [
    Event(wall_time=1.5, step=300,
          summary=Summary(value=[value(tag="loss", simple_value=0.1), value(tag="previews", image=picture)])),
    Event(wall_time=2, step=7, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=2, file_version="brain.Event:2"),
]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "../../tests/golden/events.tfevents"), "wb") as f:
    writer = RecordWriter(f)
    for event in events:
        writer.write(event.SerializeToString())
    writer.flush()
