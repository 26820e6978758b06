#!/usr/bin/env python3
"""Loads a running `narwhal serve` and prints what it reached, as one JSON object.

    narwhal serve --sessions 65 --ctx 20000 --quiet &
    tests/serve/load.py [--port 8000] [--streams 64] [--tokens 200] [--prompt-tokens 16000]

one:   tokens per second of one stream alone, and the gaps between its tokens
many:  tokens per second of all streams together
mixed: the gaps of one stream while a long prompt is read beside it

Only the standard library; one thread, so that the measuring costs little beside what is measured.
"""
import argparse, json, selectors, socket, statistics, sys, time, urllib.request


def request(port, body):
    data = json.dumps(body).encode()
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    return s


def follow(sockets, watched=None):
    """Reads all streams to their end; times at which pieces of `watched` came, and the usage of each."""
    selector, times, tails = selectors.DefaultSelector(), [], {}
    for s in sockets:
        s.setblocking(False)
        tails[s] = b""
        selector.register(s, selectors.EVENT_READ)
    open_, tokens = set(sockets), 0
    while open_:
        for key, _ in selector.select(30):
            s = key.fileobj
            piece = s.recv(1 << 16)
            if s is watched and b'"text": "' in piece:
                times.append(time.perf_counter())
            tails[s] = (tails[s] + piece)[-2000:]
            if b"data: [DONE]" in tails[s] or not piece:
                at = tails[s].rfind(b'"completion_tokens": ')
                tokens += int(tails[s][at + 21:].split(b",")[0]) if at >= 0 else 0
                selector.unregister(s)
                s.close()
                open_.discard(s)
    return times, tokens


def gaps_of(times):
    gaps = sorted(1000 * (b - a) for a, b in zip(times, times[1:]))
    if len(gaps) < 2:
        return {}
    return {"median_ms": round(statistics.median(gaps), 3), "p99_ms": round(gaps[int(len(gaps) * .99)], 3),
            "worst_ms": round(gaps[-1], 3), "n": len(gaps)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--streams", type=int, default=64)
    p.add_argument("--tokens", type=int, default=200)
    p.add_argument("--prompt-tokens", type=int, default=16000)
    a = p.parse_args()

    # Without the controls that end a turn, streams have a known length.
    endings = json.dumps({"content": "<｜end▁of▁sentence｜><｜User｜><｜Assistant｜>"})
    ids = json.load(urllib.request.urlopen("http://127.0.0.1:%d/tokenize" % a.port, endings.encode()))["tokens"]

    def body(seed, n):
        return dict(prompt="Once upon a time", stream=True, temperature=1, seed=seed, max_tokens=n,
                    logit_bias={str(i): -100 for i in ids}, stream_options={"include_usage": True})

    out = {}
    follow([request(a.port, body(1, 20))])
    start = time.perf_counter()
    s = request(a.port, body(2, 2 * a.tokens))
    times, n = follow([s], s)
    out["one"] = {"tokens_per_s": round(n / (time.perf_counter() - start), 1), **gaps_of(times)}

    start = time.perf_counter()
    _, n = follow([request(a.port, body(10 + i, a.tokens)) for i in range(a.streams)])
    out["many"] = {"streams": a.streams, "tokens_per_s": round(n / (time.perf_counter() - start), 1)}

    # One stream is watched from its 50th token on, while the long prompt is read.
    s = request(a.port, body(3, 6000))
    for _ in range(50):
        s.recv(1 << 16)
    prompt = [5 + i * 7 % 1500 for i in range(a.prompt_tokens)]
    long_one = request(a.port, dict(prompt=prompt, max_tokens=1, stream=True, seed=int(time.time())))
    start, times, done = time.perf_counter(), [], False
    selector = selectors.DefaultSelector()
    for sock in (s, long_one):
        selector.register(sock, selectors.EVENT_READ)
    while not done:
        for key, _ in selector.select(60):
            piece = key.fileobj.recv(1 << 16)
            if key.fileobj is s and piece:
                times.append(time.perf_counter())
            done = done or not piece or (key.fileobj is long_one and b"finish_reason\": \"" in piece)
    out["mixed"] = {"prompt_tokens": a.prompt_tokens, "prompt_s": round(time.perf_counter() - start, 2),
                    **gaps_of(times)}
    json.dump(out, sys.stdout)
    print()


main()
