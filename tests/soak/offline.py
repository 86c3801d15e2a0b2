"""A run with the network shut, and a key that must not be found anywhere afterwards."""

import json
import os
import subprocess
import sys
from threading import Thread

from worlds import trials

from test_chat_endpoint import Server, completion

CANARY = "sk-canary-7f3a9b2c1d"
SHUT = """
import socket, sys
def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        print("CONNECTED", address, file=sys.stderr, flush=True)
        raise OSError("the network is shut")
socket.socket.connect = socket.socket.connect_ex = refuse
from facsynth.cli import main
main(sys.argv[1:])
"""


def soak(seconds, rng, folder):
    """Every command of the world without a network; then a run at an endpoint with a key."""
    row = {"commands without a network": 0, "files searched": 0, "wrong": 0}
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "OPENAI_API_KEY": CANARY}
    for trial in trials(folder):
        words = [sys.executable, "-c", SHUT, *map(str, trial.words), "-o", folder / trial.name]
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
        row["commands without a network"] += 1
        row["wrong"] += done.returncode != 0 or "CONNECTED" in done.stderr
        if done.returncode or "CONNECTED" in done.stderr:
            print(trial.name, done.stderr[-600:])
    server = Server(lambda s, text, n: completion(f"the cat saw {n} old tea"))
    Thread(target=server.serve_forever, daemon=True).start()
    recipe = folder / "asked.toml"
    generator = f'generator.chat_model = "m"\ngenerator.api_base = "{server.url}"\n'
    text = (folder / "recipe.toml").read_text().replace("generator.batch_size = 4\n", generator)
    recipe.write_text(text)
    words = [sys.executable, "-m", "facsynth", "--debug", "run", recipe, "-o", folder / "asked"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    server.shutdown()
    row["calls with the key"] = len(server.bodies)
    row["wrong"] += not server.bodies or server.keys != {f"Bearer {CANARY}"}
    row["wrong"] += CANARY in done.stdout + done.stderr + json.dumps(server.bodies)
    for path in folder.rglob("*"):
        if path.is_file():
            row["files searched"] += 1
            row["wrong"] += CANARY.encode() in path.read_bytes()
    return row
