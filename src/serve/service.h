// Service: the whole server. One engine, one listening socket, all APIs.
//
//   NW_ASSIGN(auto service, Service::open(*engine, options));
//   service->run();              // until stop() from any thread or a signal handler's thread
//
// Threads: IO (sockets and the forms of replies), two workers (bodies to prompts), the scheduler.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "narwhal/engine.h"
#include "narwhal/status.h"
#include "serve/api/api.h"
#include "serve/http/access.h"
#include "serve/http/server.h"
#include "serve/scheduler.h"
#include "serve/script.h"

namespace narwhal::serve {

struct ServeOptions {
  HttpOptions http;
  AccessRules access;
  SchedulerOptions scheduler;
  ApiContext api;  // n_ctx, n_vocab and chat are filled in
  double keep_alive_s = 5;
  bool soft_response_format = false;
  int call_retries = 1;       // how often a malformed block of calls is written again
  int loop_tokens = 4096;     // repetition that ends a turn; 0 = never
  int64_t tool_reminder = 0;  // depth from which tool results are followed by a reminder; 0 = none
  std::shared_ptr<const Script> script = {};  // tests of clients: what to write
  std::string trace_dir;                      // not empty: a file per turn with prompt and output
  bool quiet = false;                         // no line per request
};

class Service {
 public:
  // The engine must outlive the service. kBadInput when its model has no tokenizer or lacks control
  // tokens; kFailed when the address is taken.
  static Result<std::unique_ptr<Service>> open(Engine& engine, ServeOptions options);
  virtual ~Service() = default;

  virtual int port() const = 0;
  virtual void run() = 0;
  // Any thread. Turns end with an error, states are kept.
  virtual void stop() = 0;

  virtual const Metrics& metrics() const = 0;
  virtual const TurnMemory& turn_memory() const = 0;
};

}  // namespace narwhal::serve
