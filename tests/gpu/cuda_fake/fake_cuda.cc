#include "fake_cuda.h"

#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "backend/cuda/kernel_table.h"
#include "backend/emu/emu_kernels.h"
#include "base/check.h"

namespace narwhal {

// Handles are addresses of marks, one for each kernel.
static const char kMarks[static_cast<int>(gpu::KernelId::kCount)] = {};

#define NW_MARK(name, ...)                             \
  {&kMarks[static_cast<int>(gpu::KernelId::k_##name)], \
   static_cast<int>(sizeof(__VA_ARGS__::Shared))},
namespace kernels {
const KernelHandle matrix_kernels[] = {NW_KERNELS_MATRIX(NW_MARK)};
const KernelHandle dot_kernels[] = {NW_KERNELS_DOT(NW_MARK)};
const KernelHandle tile_kernels[] = {NW_KERNELS_TILE(NW_MARK)};
const KernelHandle other_kernels[] = {NW_KERNELS_OTHER(NW_MARK)};
const int n_matrix_kernels = std::size(matrix_kernels), n_dot_kernels = std::size(dot_kernels),
          n_tile_kernels = std::size(tile_kernels), n_other_kernels = std::size(other_kernels);
}  // namespace kernels
#undef NW_MARK

}  // namespace narwhal

using narwhal::fake_cuda::counts;
using narwhal::fake_cuda::Order;
using narwhal::fake_cuda::settings;

namespace {

struct Point {  // of an event
  int64_t n_recorded = 0, n_reached = 0;
  FakeStream* stream = nullptr;
};

// Work, or a point that is reached, or one that is waited for.
struct Step {
  std::function<void()> work;
  std::shared_ptr<Point> reached, awaited;
  int64_t number = 0;  // of the point
  enum { kOther, kLaunch, kCopy } kind = kOther;
  int64_t turn = 0;  // of all that was enqueued

  bool can_run() const { return !awaited || awaited->n_reached >= number; }
};

}  // namespace

struct FakeStream {
  std::deque<Step> steps;
  std::unique_ptr<FakeGraph> recording;
  bool wrote_weights = false;  // its last launch
};
struct FakeEvent {
  std::shared_ptr<Point> point = std::make_shared<Point>();
};
struct FakeGraph {
  std::vector<Step> steps;
};

namespace {

struct World {
  std::recursive_mutex mutex;
  FakeStream null;  // the default stream
  std::vector<FakeStream*> streams{&null};
  std::map<std::byte*, size_t> device, pinned, registered;
  narwhal::emu::Machine machine;
  std::mt19937 rng{1};
  cudaError_t fault = cudaSuccess;
  int64_t n_enqueued = 0;
};

World& world() {
  static World w;
  return w;
}

#define NW_ENTER()                           \
  const std::lock_guard lock(world().mutex); \
  if (world().fault != cudaSuccess) return world().fault

bool holds(const std::map<std::byte*, size_t>& pieces, const void* p, size_t n_bytes) {
  const auto* const at = static_cast<const std::byte*>(p);
  auto piece = pieces.upper_bound(const_cast<std::byte*>(at));
  if (piece == pieces.begin()) return false;
  --piece;
  return at + n_bytes <= piece->first + piece->second;
}

void protect_device(int protection) {
  for (const auto& [memory, n_bytes] : world().device)
    NW_CHECK(mprotect(memory, n_bytes, protection) == 0, "mprotect of {} bytes", n_bytes);
}

void run_step(FakeStream& stream) {
  const Step step = std::move(stream.steps.front());
  stream.steps.pop_front();
  if (step.kind == Step::kCopy)
    for (const FakeStream* other : world().streams)
      if (std::any_of(other->steps.begin(), other->steps.end(), [&](const Step& s) {
            return s.kind == Step::kLaunch && s.turn < step.turn;
          })) {
        counts().n_copies_ahead++;
        break;
      }
  if (step.reached) step.reached->n_reached = step.number;
  if (step.work && world().fault == cudaSuccess) step.work();
}

FakeStream* choose(FakeStream* wanted) {
  std::vector<FakeStream*> able;
  for (FakeStream* s : world().streams)
    if (!s->steps.empty() && s->steps.front().can_run()) able.push_back(s);
  NW_CHECK(!able.empty(), "the host waits for what never comes");
  if (settings().order == Order::kRandom) return able[world().rng() % able.size()];
  const bool first = settings().order == Order::kLate;
  const auto it =
      std::find_if(able.begin(), able.end(), [&](FakeStream* s) { return (s == wanted) == first; });
  return it == able.end() ? able.front() : *it;
}

cudaError_t wait(FakeStream* wanted, const std::function<bool()>& is_done) {
  counts().n_waits++;
  if (is_done()) return world().fault;
  protect_device(PROT_READ | PROT_WRITE);
  while (!is_done()) run_step(*choose(wanted));
  protect_device(PROT_NONE);
  return world().fault;
}

cudaError_t wait_for_all() {
  for (FakeStream* s : world().streams) wait(s, [s] { return s->steps.empty(); });
  return world().fault;
}

void enqueue(FakeStream* stream, Step step) {
  if (!stream) stream = &world().null;
  step.turn = ++world().n_enqueued;
  if (stream->recording)
    stream->recording->steps.push_back(std::move(step));
  else
    stream->steps.push_back(std::move(step));
}

template <class T>
cudaError_t give(T** to, T* object) {
  counts().n_objects++;
  *to = object;
  return cudaSuccess;
}
template <class T>
cudaError_t take(T* object) {
  counts().n_objects--;
  delete object;
  return cudaSuccess;
}

// Null where there is no room.
std::byte* map_pages(size_t n_bytes) {
  void* const p =
      mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? nullptr : static_cast<std::byte*>(p);
}

// Gives how many bytes they were.
size_t unmap_pages(std::map<std::byte*, size_t>& pieces, void* memory) {
  const auto piece = pieces.find(static_cast<std::byte*>(memory));
  NW_CHECK(piece != pieces.end(), "{} was not allocated", memory);
  const size_t n_bytes = piece->second;
  munmap(memory, n_bytes);
  pieces.erase(piece);
  counts().n_objects--;
  return n_bytes;
}

}  // namespace

namespace narwhal::fake_cuda {

Settings& settings() {
  static Settings s;
  return s;
}
Counts& counts() {
  static Counts c;
  return c;
}
void reset() {
  const std::lock_guard lock(world().mutex);
  settings() = {};
  counts() = {.n_objects = counts().n_objects, .device_bytes = counts().device_bytes};
  for (FakeStream* s : world().streams) s->steps.clear();
  world().fault = cudaSuccess;
}

}  // namespace narwhal::fake_cuda

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorNotSupported:
      return "operation not supported";
  }
  return "unknown error";
}
cudaError_t cudaGetLastError() { return world().fault; }

cudaError_t cudaGetDeviceCount(int* n) {
  *n = settings().n_devices;
  return *n > 0 ? cudaSuccess : cudaErrorNoDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"Fake H100", static_cast<size_t>(settings().memory_bytes), settings().major,
                 settings().minor, 32};
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  // As the emulator's queue: few multiprocessors, and room for any kernel.
  *value = attribute == cudaDevAttrMultiProcessorCount ? 3 : 1 << 20;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  NW_ENTER();
  return wait_for_all();
}

cudaError_t cudaMalloc(void** memory, size_t n_bytes) {
  NW_ENTER();
  const size_t pages = (std::max<size_t>(n_bytes, 1) + 4095) / 4096 * 4096;
  if (counts().device_bytes + static_cast<int64_t>(pages) > settings().memory_bytes)
    return cudaErrorMemoryAllocation;
  std::byte* const p = map_pages(pages);
  if (!p) return cudaErrorMemoryAllocation;
  std::memset(p, 0xcb, pages);
  NW_CHECK(mprotect(p, pages, PROT_NONE) == 0, "mprotect of {} bytes", pages);
  world().device[p] = pages;
  counts().n_objects++;
  counts().device_bytes += static_cast<int64_t>(pages);
  *memory = p;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  NW_ENTER();
  if (!memory) return cudaSuccess;
  wait_for_all();  // as CUDA does
  counts().device_bytes -= static_cast<int64_t>(unmap_pages(world().device, memory));
  return cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, size_t n_bytes) {
  NW_ENTER();
  NW_CHECK(holds(world().device, memory, n_bytes), "{} bytes at {} are not the device's", n_bytes,
           memory);
  enqueue(nullptr, {[=] { std::memset(memory, value, n_bytes); }, {}, {}, 0});
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  NW_ENTER();
  *total = static_cast<size_t>(settings().memory_bytes);
  *free = *total - static_cast<size_t>(counts().device_bytes);
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** memory, size_t n_bytes, unsigned) {
  NW_ENTER();
  std::byte* const p = map_pages(n_bytes);
  if (!p) return cudaErrorMemoryAllocation;
  world().pinned[p] = n_bytes;
  counts().n_objects++;
  *memory = p;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  NW_ENTER();
  wait_for_all();
  unmap_pages(world().pinned, memory);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* memory, size_t n_bytes, unsigned) {
  NW_ENTER();
  if (!settings().registers_host_memory) return cudaErrorNotSupported;
  world().registered[static_cast<std::byte*>(memory)] = n_bytes;
  counts().n_objects++;
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* memory) {
  NW_ENTER();
  NW_CHECK(world().registered.erase(static_cast<std::byte*>(memory)) == 1, "{} was not registered",
           memory);
  counts().n_objects--;
  return cudaSuccess;
}
cudaError_t cudaHostGetDevicePointer(void** device, void* memory, unsigned) {
  *device = memory;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  NW_ENTER();
  NW_CHECK(flags == cudaStreamNonBlocking, "a stream that waits for the default one");
  give(stream, new FakeStream);
  world().streams.push_back(*stream);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  NW_ENTER();
  wait(stream, [stream] { return stream->steps.empty(); });
  std::erase(world().streams, stream);
  return take(stream);
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  NW_ENTER();
  NW_CHECK(!stream->recording, "a wait in a recording");
  return wait(stream, [stream] { return stream->steps.empty(); });
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  NW_ENTER();
  NW_CHECK(!stream->recording, "an event in a recording");
  enqueue(stream, {{}, {}, event->point, event->point->n_recorded});
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  NW_ENTER();
  return give(event, new FakeEvent);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  NW_ENTER();
  return take(event);
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  NW_ENTER();
  NW_CHECK(!stream->recording, "an event in a recording");
  Point& point = *event->point;
  point.stream = stream;
  enqueue(stream, {{}, event->point, {}, ++point.n_recorded});
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  NW_ENTER();
  const Point& point = *event->point;
  const int64_t number = point.n_recorded;
  return wait(point.stream, [&] { return point.n_reached >= number; });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n_bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  NW_ENTER();
  bool is_pageable = false;
  for (const void* p : {static_cast<const void*>(to), from})
    is_pageable =
        is_pageable || !(holds(world().device, p, n_bytes) || holds(world().pinned, p, n_bytes) ||
                         holds(world().registered, p, n_bytes));
  enqueue(stream, {[=] { std::memmove(to, from, n_bytes); }, {}, {}, 0, Step::kCopy});
  if (!is_pageable) return cudaSuccess;
  NW_CHECK(!stream->recording, "a copy of memory that is not pinned in a recording");
  return wait(stream, [stream] { return stream->steps.empty(); });
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void*) {
  attributes->ptxVersion = 90;
  return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function,
                                void** arguments) {
  const auto [n_groups, n_threads, shared_bytes, stream, attrs, n_attrs] = *config;
  NW_ENTER();
  const auto id =
      static_cast<narwhal::gpu::KernelId>(static_cast<const char*>(function) - narwhal::kMarks);
  // It may begin before the launch in front is done, and reads weights without waiting for that.
  NW_CHECK(n_attrs == 0 || !stream->wrote_weights, "{} comes too early",
           narwhal::gpu::kKernelNames[static_cast<int>(id)]);
  stream->wrote_weights = id == narwhal::gpu::KernelId::k_repack;
  const narwhal::emu::EmulatedKernel& kernel = narwhal::emu::kernel_of(id);
  NW_CHECK(static_cast<int64_t>(shared_bytes) == kernel.shared_bytes, "{} bytes of shared memory",
           shared_bytes);
  std::vector<std::max_align_t> copy(kernel.n_bytes / sizeof(std::max_align_t) + 1);
  std::memcpy(copy.data(), arguments[0], kernel.n_bytes);
  (stream->recording ? counts().n_recorded : counts().n_launches)++;
  const auto launch = [copy = std::move(copy), &kernel, n_groups, n_threads] {
    if (settings().failing_launch >= 0 && settings().failing_launch-- == 0) {
      world().fault = cudaErrorIllegalAddress;
      return;
    }
    world().machine.launch(kernel.body, copy.data(), kernel.shared_bytes, n_groups.x,
                           static_cast<int>(n_threads.x));
  };
  enqueue(stream, {launch, {}, {}, 0, Step::kLaunch});
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  NW_ENTER();
  stream->recording = std::make_unique<FakeGraph>();
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  NW_ENTER();
  return give(graph, stream->recording.release());
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned) {
  NW_ENTER();
  return give(exec, new FakeGraph(*graph));
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  NW_ENTER();
  counts().n_replays++;
  for (const Step& step : exec->steps) enqueue(stream, step);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return take(graph); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return take(exec); }
