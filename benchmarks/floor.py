"""The least that an agent in Python can do with httpx: ask, run what is asked for, send all of it again.

python floor.py URL talk|run     `talk` leaves the commands out and only sends and receives.
"""

import json
import subprocess
import sys

# httpx loads its own command line, and with it rich, click and pygments where they are installed, as they are
# beside pool: 60 ms that a script has no use for. Without them it is a stricter floor.
sys.modules["httpx._main"] = None  # type: ignore[assignment]
import httpx  # noqa: E402

url, mode = sys.argv[1:]
messages = [{"role": "system", "content": "You are an agent."}, {"role": "user", "content": "Fix it."}]
with httpx.Client(timeout=None) as client:
    while messages[-1]["role"] != "assistant":
        text, calls = "", {}
        body = {"model": "floor", "stream": True, "messages": messages}
        with client.stream("POST", f"{url}/chat/completions", json=body) as response:
            for line in response.iter_lines():
                if not line.startswith("data: {") or not (choices := json.loads(line[6:])["choices"]):
                    continue
                text += choices[0]["delta"].get("content") or ""
                for piece in choices[0]["delta"].get("tool_calls") or ():
                    calls.setdefault(piece["index"], []).append(piece)
        asked = [
            (p[0]["id"], "".join(x["function"].get("arguments") or "" for x in p)) for p in calls.values()
        ]
        named = [
            {"id": i, "type": "function", "function": {"name": "shell", "arguments": a}} for i, a in asked
        ]
        messages.append({"role": "assistant", "content": text, **({"tool_calls": named} if named else {})})
        for id, arguments in asked:
            command = ["bash", "-c", json.loads(arguments)["command"]]
            done = mode == "run" and subprocess.run(command, capture_output=True, text=True)
            messages.append({"role": "tool", "tool_call_id": id, "content": done.stdout if done else "17\n"})
