#!/usr/bin/env python3
"""Loads a running `narwhal serve` and prints what it reached, as one JSON object.

    narwhal serve --sessions 65 --ctx 20000 --quiet &
    tests/serve/load.py [--port 8000] [--streams 64] [--tokens 200] [--prompt-tokens 16000]
                        [--requests N --seconds S --pid PID]

one:   tokens per second of one stream alone, the gaps between its tokens, and the CPU time that the
       server spends outside the engine for a token (scheduler and sockets, from /metrics), as a share
       of the CPU time that a token takes
many:  tokens per second of all streams together
mixed: the gaps of one stream while a long prompt is read beside it
storm: with --requests, that many requests of all kinds spread over --seconds, some of which leave
       before their end: statuses, seconds, and memory and descriptors of the server with --pid

Only the standard library; one thread, so that the measuring costs little beside what is measured.
"""
import argparse, collections, json, os, random, selectors, socket, statistics, sys, time, urllib.request


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


def counters(port):
    text = urllib.request.urlopen("http://127.0.0.1:%d/metrics" % port).read().decode()
    return {l.split()[0][8:]: float(l.split()[1]) for l in text.splitlines() if l.startswith("narwhal_")}


def outside_engine(before, after):
    change = {k: after[k] - before[k] for k in after}
    tokens = change["tokens_predicted_total"]
    us = {k: round(1e6 * change[k + "_seconds_total"] / tokens, 1) for k in ("scheduler", "io", "process")}
    return {"per_token_us": us, "share": round((us["scheduler"] + us["io"]) / us["process"], 4)}


WEATHER = {"name": "get_weather", "description": "Get the weather for a specific location", "parameters":
           {"type": "object", "properties": {"location": {"type": "string"}}, "required": ["location"]}}


def storm_request(r):
    """A request as bytes, and whether its client leaves early."""
    city, stream = r.choice(["Oslo", "Rome", "Lima", "Cairo"]), r.random() < .6
    user = [{"role": "user", "content": "What is the weather in %s?" % city}]
    if r.random() < .05:
        user[0]["content"] = " ".join("item %d is blue." % i for i in range(r.randrange(200, 600)))
    short = r.randrange(5, 60)
    tools = [{"type": "function", "function": dict(WEATHER, strict=r.random() < .3)}]
    path, body = r.choice([
        ("chat/completions", dict(messages=user, max_tokens=short, stream=stream)),
        ("chat/completions", dict(messages=user, max_tokens=120, stream=stream, tools=tools)),
        ("chat/completions", dict(messages=user, max_tokens=short, thinking=False,
                                  response_format={"type": "json_object"})),
        ("completions", dict(prompt="Once", max_tokens=short, stream=stream)),
        ("messages", dict(messages=user, max_tokens=short, stream=stream)),
        ("messages/count_tokens", dict(messages=user)),
        ("responses", dict(input=user[0]["content"], max_output_tokens=short, stream=stream)),
        ("models", None), ("metrics", None), ("chat/completions", dict(messages=[]))])
    if body is None:
        return b"GET /v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path.encode(), False
    data = json.dumps(body).encode()
    return (b"POST /v1/%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
            % (path.encode(), len(data)) + data), r.random() < .1


def size_of(pid):
    if not pid:
        return {}
    pages = int(open("/proc/%d/statm" % pid).read().split()[1])
    return {"memory_mb": pages * os.sysconf("SC_PAGESIZE") >> 20, "descriptors": len(os.listdir("/proc/%d/fd" % pid))}


def storm(port, n, seconds, pid, at_once=12):
    r, selector, statuses, sizes = random.Random(1), selectors.DefaultSelector(), collections.Counter(), []
    start, sent, open_ = time.perf_counter(), 0, {}

    def close(s, status):
        statuses[status] += 1
        selector.unregister(s)
        s.close()
        del open_[s]

    while sent < n or open_:
        due = n * (time.perf_counter() - start) / seconds if seconds else n
        while sent < min(n, due) and len(open_) < at_once:
            data, leaves = storm_request(r)
            s = socket.create_connection(("127.0.0.1", port))
            s.sendall(data)
            s.setblocking(False)
            selector.register(s, selectors.EVENT_READ)
            open_[s] = (b"", time.perf_counter() + r.random() * .2 if leaves else None)
            sent += 1
            if sent % max(1, n // 4) == 0:
                sizes.append(dict(requests=sent, **size_of(pid)))
        for key, _ in selector.select(.02):
            s = key.fileobj
            try:
                piece = s.recv(1 << 16)
            except ConnectionResetError:
                piece = b""
            head, leave = open_[s]
            open_[s] = (head or piece[:12], leave)
            if not piece:
                close(s, head[9:12].decode() or "closed")
        for s, (_, leave) in list(open_.items()):
            if leave and time.perf_counter() > leave:
                close(s, "left")
    return {"requests": n, "seconds": round(time.perf_counter() - start, 1), "statuses": dict(statuses), "server": sizes}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--port", type=int, default=8000)
    p.add_argument("--streams", type=int, default=64)
    p.add_argument("--tokens", type=int, default=200)
    p.add_argument("--prompt-tokens", type=int, default=16000)
    p.add_argument("--requests", type=int, default=0)
    p.add_argument("--seconds", type=float, default=0)
    p.add_argument("--pid", type=int, default=0)
    a = p.parse_args()
    if a.requests:
        json.dump({"storm": storm(a.port, a.requests, a.seconds, a.pid)}, sys.stdout)
        return print()

    # Without the controls that end a turn, streams have a known length.
    endings = json.dumps({"content": "<｜end▁of▁sentence｜><｜User｜><｜Assistant｜>", "parse_special": True})
    ids = json.load(urllib.request.urlopen("http://127.0.0.1:%d/tokenize" % a.port, endings.encode()))["tokens"]

    def body(seed, n):
        return dict(prompt="Once upon a time", stream=True, temperature=1, seed=seed, max_tokens=n,
                    logit_bias={str(i): -100 for i in ids}, stream_options={"include_usage": True})

    out = {}
    follow([request(a.port, body(1, 20))])
    before, start = counters(a.port), time.perf_counter()
    s = request(a.port, body(2, 5 * a.tokens))
    times, n = follow([s], s)
    out["one"] = {"tokens_per_s": round(n / (time.perf_counter() - start), 1), **gaps_of(times),
                  "outside_engine": outside_engine(before, counters(a.port))}

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
