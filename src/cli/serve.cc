// narwhal serve: the APIs of OpenAI and Anthropic over HTTP.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>

#include <cstdio>
#include <limits>
#include <thread>

#include "cli/commands.h"
#include "cli/setup.h"
#include "serve/http/access.h"
#include "serve/service.h"

namespace narwhal::cli {
namespace {

Result<int> int_option(const Args& args, std::string_view name, int64_t least, int64_t most) {
  const int64_t v = args.integer(name);
  if (v >= least && v <= most) return static_cast<int>(v);
  return usage(fmt::format("{} is {}, expected {} to {}", name, v, least, most));
}

Result<serve::ServeOptions> serve_options(const Args& args, const ModelInfo& model) {
  serve::ServeOptions o;
  o.http.host = args.text("--host");
  NW_ASSIGN(o.http.port, int_option(args, "--port", 0, 65535));
  o.http.unix_path = args.text("--unix");
  o.access.keys = args.list("--api-key");
  o.access.cors = args.flag("--cors");
  o.access.hosts = args.list("--name");
  o.access.loopback = serve::is_loopback(o.http.host);
  NW_ASSIGN(o.scheduler.n_sessions, int_option(args, "--sessions", 1, 1024));
  NW_ASSIGN(o.scheduler.max_queue, int_option(args, "--max-queue", 1, 100'000));
  o.scheduler.stretch = args.number("--stretch");
  if (o.scheduler.stretch < 1.1) {
    return usage(fmt::format("--stretch is {}, expected 1.1 or more", o.scheduler.stretch));
  }
  o.keep_alive_s = args.number("--keep-alive");
  if (o.keep_alive_s < 0.1) {
    return usage(fmt::format("--keep-alive is {}, expected 0.1 or more", o.keep_alive_s));
  }
  o.api.model = args.text("--alias").empty() ? model.name : args.text("--alias");
  NW_ASSIGN(o.api.sampling, sampling_options(args));
  o.api.default_max_tokens = args.integer("--max-tokens");
  NW_ASSIGN(const text::RenderOptions render, render_options(args, model));
  o.api.thinking = render.thinking;
  o.api.effort = render.effort;
  o.api.anthropic_thinking = args.text("--anthropic-thinking-default") == "on" && render.thinking;
  o.soft_response_format = args.flag("--soft-response-format");
  NW_ASSIGN(o.call_retries, int_option(args, "--call-retries", 0, 16));
  NW_ASSIGN(o.loop_tokens, int_option(args, "--loop-breaker", 0, 1 << 24));
  NW_ASSIGN(o.tool_reminder, int_option(args, "--tool-reminder", 0, 1 << 24));
  NW_ASSIGN(o.scheduler.retry_s, int_option(args, "--retry-window", 0, 86'400));
  if (!args.text("--script").empty()) {
    NW_ASSIGN(serve::Script script, serve::Script::read(args.text("--script")));
    o.script = std::make_shared<const serve::Script>(std::move(script));
  }
  o.trace_dir = args.text("--trace");
  o.quiet = args.flag("--quiet");
  o.scheduler.shows_progress = !o.quiet;
  if (!o.trace_dir.empty() && ::mkdir(o.trace_dir.c_str(), 0700) != 0 && errno != EEXIST) {
    return usage(fmt::format("--trace {}: the folder cannot be made", o.trace_dir));
  }
  return o;
}

void announce(const serve::ServeOptions& o, int port) {
  if (!o.http.unix_path.empty()) {
    fmt::print(stderr, "{} at {}\n", o.api.model, o.http.unix_path);
    return;
  }
  const bool v6 = o.http.host.find(':') != std::string::npos;
  fmt::print(stderr, "{} at http://{}{}{}:{}/v1\n", o.api.model, v6 ? "[" : "", o.http.host,
             v6 ? "]" : "", port);
  if (!o.access.loopback && o.access.keys.empty()) {
    fmt::print(stderr,
               "narwhal: warning: every machine that reaches {} can use this server; "
               "--api-key KEY asks for a key\n",
               o.http.host);
  }
}

}  // namespace

Status serve(const Args& args) {
  // Threads made from here on leave the signals to the one that waits for them.
  sigset_t signals;
  sigemptyset(&signals);
  for (int s : {SIGINT, SIGTERM}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  NW_ASSIGN(EngineOptions options, engine_options(args));
  options.kv_disk_dir = args.text("--kv-disk-dir");
  options.kv_disk_space_mb = args.integer("--kv-disk-space-mb");
  NW_ASSIGN(options.n_sessions, int_option(args, "--sessions", 1, 1024));
  NW_ASSIGN(const auto engine, Engine::open(options));
  NW_ASSIGN(const serve::ServeOptions serving, serve_options(args, engine->info()));
  NW_ASSIGN(const auto service, serve::Service::open(*engine, serving));
  announce(serving, service->port());

  std::thread waiter([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);  // a second one ends the program
    service->stop();
  });
  service->run();
  waiter.join();
  return ok_status();
}

}  // namespace narwhal::cli
