#include "fake_metal.h"

#include <Metal/Metal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/check.h"
#include "fake_gpu.h"
#include "fake_objects.h"

namespace narwhal::fake_metal {

Settings& settings() {
  static Settings s;
  return s;
}
Counts& counts() {
  static Counts c;
  return c;
}

namespace {

// Memory seen twice: by the host at `host`, by the GPU at `gpu`.
struct Memory {
  std::byte *host = nullptr, *gpu = nullptr;
  size_t n_bytes = 0;
  bool is_window = false;  // on memory of the host
  bool is_read_only = false;
  int n_uses = 0;  // command buffers that name it and have not ended

  void protect(bool gpu_runs) const {
    const int open = is_read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    NW_CHECK(mprotect(gpu, n_bytes, gpu_runs ? open : PROT_NONE) == 0, "mprotect");
    if (!is_window)
      NW_CHECK(mprotect(host, n_bytes, gpu_runs ? PROT_NONE : PROT_READ | PROT_WRITE) == 0,
               "mprotect");
  }
};

std::byte* map_shared(int fd, size_t n_bytes, int protection) {
  void* p = mmap(nullptr, n_bytes, protection, MAP_SHARED, fd, 0);
  NW_CHECK(p != MAP_FAILED, "mmap of {}", n_bytes);
  return static_cast<std::byte*>(p);
}

int memory_of(size_t n_bytes) {
  const int fd = memfd_create("fake_metal", 0);
  NW_CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(n_bytes)) == 0, "memfd of {}", n_bytes);
  return fd;
}

struct Dispatch {
  int kernel;
  std::vector<std::byte> arguments;
  int64_t n_groups;
  int n_threads;
};

struct Pass {
  std::set<Memory*> memory;
  id waits_for = nil, updates = nil;
  std::vector<Dispatch> dispatches;
  bool ended = false;
};

struct Commands {
  std::vector<std::unique_ptr<Pass>> passes;
  MTLCommandBufferStatus status = MTLCommandBufferStatusNotEnqueued;
  bool fails = false;
};

// The passes of a device are ordered by nothing but fences.
struct Timeline {
  std::vector<std::shared_ptr<Commands>> committed;
  id last_fence = nil;
  bool any_pass = false;
};

void run(Pass& pass, Timeline& timeline) {
  NW_CHECK(!timeline.any_pass || (pass.waits_for && pass.waits_for == timeline.last_fence),
           "a pass does not wait for the one before");
  timeline.any_pass = true;
  timeline.last_fence = pass.updates;
  for (const Memory* m : pass.memory) m->protect(true);
  for (const Dispatch& d : pass.dispatches)
    fake_gpu_run(d.kernel, d.arguments.data(), d.n_groups, d.n_threads);
  for (const Memory* m : pass.memory) m->protect(false);
}

void run(Commands& commands, Timeline& timeline) {
  if (!commands.fails)
    for (auto& pass : commands.passes) run(*pass, timeline);
  for (auto& pass : commands.passes)
    for (Memory* m : pass->memory) m->n_uses--;
  commands.status = commands.fails ? MTLCommandBufferStatusError : MTLCommandBufferStatusCompleted;
}

void run_until(const std::shared_ptr<Commands>& last, Timeline& timeline) {
  const auto end = std::find(timeline.committed.begin(), timeline.committed.end(), last);
  if (end == timeline.committed.end()) return;  // has run
  for (auto it = timeline.committed.begin(); it != end + 1; ++it) run(**it, timeline);
  timeline.committed.erase(timeline.committed.begin(), end + 1);
}

id error_of(const std::string& text) { return [[[NSError alloc] initWithText:text] autorelease]; }

}  // namespace
}  // namespace narwhal::fake_metal

using namespace narwhal::fake_metal;  // NOLINT(google-build-using-namespace)

@interface FakeFence : NSObject <MTLFence>
@end
@implementation FakeFence
@end

@interface FakeBuffer : NSObject <MTLBuffer> {
 @public
  Memory* memory_;
}
@end
@implementation FakeBuffer
- (id)initWithLength:(NSUInteger)length {
  const int fd = memory_of(length);
  memory_ = new Memory;
  memory_->n_bytes = length;
  memory_->host = map_shared(fd, length, PROT_READ | PROT_WRITE);
  memory_->gpu = map_shared(fd, length, PROT_NONE);
  counts().buffer_bytes += static_cast<int64_t>(length);
  close(fd);
  return self;
}
- (id)initWithWindow:(void*)window length:(NSUInteger)length {
  memory_ = new Memory;
  memory_->n_bytes = length;
  memory_->is_window = true;
  memory_->host = static_cast<std::byte*>(window);
  // Memory that is shared can be mapped again; of other memory its bytes of now will do, as
  // weights do not change.
  void* again = mremap(window, 0, length, MREMAP_MAYMOVE);
  if (again == MAP_FAILED) {
    const int fd = memory_of(length);
    again = map_shared(fd, length, PROT_READ | PROT_WRITE);
    std::memcpy(again, window, length);
    close(fd);
    memory_->is_read_only = true;
  } else {
    memory_->is_read_only = mprotect(again, length, PROT_READ | PROT_WRITE) != 0;
  }
  memory_->gpu = static_cast<std::byte*>(again);
  NW_CHECK(mprotect(again, length, PROT_NONE) == 0, "mprotect");
  counts().mapped_bytes += static_cast<int64_t>(length);
  return self;
}
- (void*)contents {
  return memory_->host;
}
- (NSUInteger)length {
  return memory_->n_bytes;
}
- (uint64_t)gpuAddress {
  return reinterpret_cast<uint64_t>(memory_->gpu);
}
- (void)dealloc {
  NW_CHECK(memory_->n_uses == 0, "a buffer goes that {} command buffers need", memory_->n_uses);
  munmap(memory_->gpu, memory_->n_bytes);
  if (!memory_->is_window) munmap(memory_->host, memory_->n_bytes);
  (memory_->is_window ? counts().mapped_bytes : counts().buffer_bytes) -=
      static_cast<int64_t>(memory_->n_bytes);
  delete memory_;
  [super dealloc];
}
@end

@interface FakeFunction : NSObject <MTLFunction> {
 @public
  int kernel_;
}
@end
@implementation FakeFunction
@end

@interface FakeLibrary : NSObject <MTLLibrary>
@end
@implementation FakeLibrary
- (id<MTLFunction>)newFunctionWithName:(NSString*)name {
  const std::string wanted = [name UTF8String];
  int n = 0;
  const FakeGpuKernel* kernels = fake_gpu_kernels(&n);
  const auto* const found =
      std::find_if(kernels, kernels + n, [&](const FakeGpuKernel& k) { return wanted == k.name; });
  if (found == kernels + n || wanted == settings().missing_kernel) return nil;
  FakeFunction* function = [FakeFunction new];
  function->kernel_ = static_cast<int>(found - kernels);
  return function;
}
@end

@interface FakePipeline : NSObject <MTLComputePipelineState> {
 @public
  int kernel_;
}
@end
@implementation FakePipeline
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return settings().max_threads;
}
- (NSUInteger)threadExecutionWidth {
  return settings().simd_width;
}
- (NSUInteger)staticThreadgroupMemoryLength {
  int n = 0;
  return static_cast<NSUInteger>(fake_gpu_kernels(&n)[kernel_].shared_bytes);
}
@end

@implementation MTLCompileOptions
- (id)init {
  fast_math_ = YES;
  return self;
}
- (BOOL)fastMathEnabled {
  return fast_math_;
}
- (void)setFastMathEnabled:(BOOL)fast {
  fast_math_ = fast;
}
@end

@implementation MTLComputePipelineDescriptor
- (id<MTLFunction>)computeFunction {
  return function_;
}
- (void)setComputeFunction:(id<MTLFunction>)function {
  [function retain];
  [function_ release];
  function_ = function;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
  return max_threads_;
}
- (void)setMaxTotalThreadsPerThreadgroup:(NSUInteger)n {
  max_threads_ = n;
}
- (BOOL)threadGroupSizeIsMultipleOfThreadExecutionWidth {
  return is_multiple_;
}
- (void)setThreadGroupSizeIsMultipleOfThreadExecutionWidth:(BOOL)is {
  is_multiple_ = is;
}
- (void)dealloc {
  [function_ release];
  [super dealloc];
}
@end

@interface FakeEncoder : NSObject <MTLComputeCommandEncoder> {
 @public
  Pass* pass_;
  std::vector<std::byte>* arguments_;
  int kernel_;
}
@end
@implementation FakeEncoder
- (id)initWithPass:(Pass*)pass {
  pass_ = pass;
  arguments_ = new std::vector<std::byte>;
  kernel_ = -1;
  return self;
}
- (void)setComputePipelineState:(id<MTLComputePipelineState>)state {
  kernel_ = static_cast<FakePipeline*>(state)->kernel_;
}
- (void)setBytes:(const void*)bytes length:(NSUInteger)length atIndex:(NSUInteger)index {
  NW_CHECK(index == 0 && length <= 4096, "{} bytes at index {}", length, index);
  const auto* const first = static_cast<const std::byte*>(bytes);
  arguments_->assign(first, first + length);
}
- (void)dispatchThreadgroups:(MTLSize)groups threadsPerThreadgroup:(MTLSize)threads {
  NW_CHECK(!pass_->ended && kernel_ >= 0, "dispatch");
  int n = 0;
  const FakeGpuKernel& kernel = fake_gpu_kernels(&n)[kernel_];
  NW_CHECK(static_cast<int64_t>(arguments_->size()) == kernel.argument_bytes,
           "{}: {} bytes of arguments", kernel.name, arguments_->size());
  NW_CHECK(threads.width == static_cast<NSUInteger>(kernel.n_threads) && groups.width > 0,
           "{}: {} threads, {} groups", kernel.name, threads.width, groups.width);
  NW_CHECK(groups.height * groups.depth * threads.height * threads.depth == 1, "a line");
  pass_->dispatches.push_back(
      {kernel_, *arguments_, static_cast<int64_t>(groups.width), static_cast<int>(threads.width)});
  counts().n_dispatches++;
}
- (void)useResources:(const id<MTLResource>[])resources
               count:(NSUInteger)count
               usage:(MTLResourceUsage)usage {
  for (NSUInteger i = 0; i < count; i++) {
    Memory* const m = static_cast<FakeBuffer*>(resources[i])->memory_;
    const bool writes = usage == (MTLResourceUsageRead | MTLResourceUsageWrite);
    NW_CHECK(m->is_window ? usage == MTLResourceUsageRead : writes, "usage {}", usage);
    if (pass_->memory.insert(m).second) m->n_uses++;
  }
}
- (void)waitForFence:(id<MTLFence>)fence {
  NW_CHECK(pass_->dispatches.empty() && !pass_->updates, "waits come first");
  pass_->waits_for = fence;
}
- (void)updateFence:(id<MTLFence>)fence {
  pass_->updates = fence;
}
- (void)endEncoding {
  NW_CHECK(!pass_->ended, "ended twice");
  pass_->ended = true;
}
- (void)dealloc {
  NW_CHECK(pass_->ended, "an encoder goes that was not ended");
  delete arguments_;
  [super dealloc];
}
@end

@interface FakeCommandBuffer : NSObject <MTLCommandBuffer> {
 @public
  std::shared_ptr<Commands>* commands_;
  Timeline* timeline_;
}
@end
@implementation FakeCommandBuffer
- (id)initWithTimeline:(Timeline*)timeline {
  commands_ = new std::shared_ptr<Commands>(std::make_shared<Commands>());
  timeline_ = timeline;
  counts().n_command_buffers++;
  return self;
}
- (id<MTLComputeCommandEncoder>)computeCommandEncoderWithDispatchType:(MTLDispatchType)type {
  NW_CHECK(type == MTLDispatchTypeSerial, "dispatch type");
  auto& passes = (*commands_)->passes;
  NW_CHECK(passes.empty() || passes.back()->ended, "two encoders at once");
  passes.push_back(std::make_unique<Pass>());
  return [[[FakeEncoder alloc] initWithPass:passes.back().get()] autorelease];
}
- (void)commit {
  Commands& c = **commands_;
  NW_CHECK(c.status == MTLCommandBufferStatusNotEnqueued, "committed twice");
  for (const auto& pass : c.passes) NW_CHECK(pass->ended, "commit of an open pass");
  c.status = MTLCommandBufferStatusCommitted;
  c.fails = settings().failing_buffer == 0;
  if (settings().failing_buffer >= 0) settings().failing_buffer--;
  timeline_->committed.push_back(*commands_);
  counts().n_commits_before_wait = static_cast<int64_t>(timeline_->committed.size());
  NW_CHECK(timeline_->committed.size() <= 64, "a queue holds 64 command buffers");
}
- (void)waitUntilCompleted {
  NW_CHECK((*commands_)->status != MTLCommandBufferStatusNotEnqueued, "wait before commit");
  run_until(*commands_, *timeline_);
}
- (MTLCommandBufferStatus)status {
  return (*commands_)->status;
}
- (NSError*)error {
  return (*commands_)->fails ? error_of("Caused GPU Address Fault Error (fake)") : nil;
}
- (void)dealloc {
  NW_CHECK(
      (*commands_)->status != MTLCommandBufferStatusNotEnqueued || (*commands_)->passes.empty(),
      "a command buffer goes that was not committed");
  delete commands_;
  [super dealloc];
}
@end

@interface FakeQueue : NSObject <MTLCommandQueue> {
 @public
  Timeline* timeline_;
}
@end
@implementation FakeQueue
- (id)init {
  timeline_ = new Timeline;
  return self;
}
- (id<MTLCommandBuffer>)commandBuffer {
  return [[[FakeCommandBuffer alloc] initWithTimeline:timeline_] autorelease];
}
- (void)dealloc {
  NW_CHECK(timeline_->committed.empty(), "a queue goes with work to do");
  delete timeline_;
  [super dealloc];
}
@end

@interface FakeDevice : NSObject <MTLDevice>
@end
@implementation FakeDevice
- (NSString*)name {
  const std::string name = settings().is_apple ? "Fake M1" : "Fake Radeon";
  return [[[NSString alloc] initWithBytes:name.data()
                                   length:name.size()
                                 encoding:NSUTF8StringEncoding] autorelease];
}
- (BOOL)hasUnifiedMemory {
  return settings().is_apple;
}
- (uint64_t)recommendedMaxWorkingSetSize {
  return settings().working_set;
}
- (NSUInteger)currentAllocatedSize {
  return static_cast<NSUInteger>(counts().buffer_bytes + counts().mapped_bytes);
}
- (NSUInteger)maxBufferLength {
  return settings().largest_buffer;
}
- (NSUInteger)maxThreadgroupMemoryLength {
  return 32768;
}
- (BOOL)supportsFamily:(MTLGPUFamily)family {
  return settings().is_apple || family == MTLGPUFamilyMetal3;
}
- (id<MTLCommandQueue>)newCommandQueue {
  return [FakeQueue new];
}
- (id<MTLFence>)newFence {
  return [FakeFence new];
}
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length options:(MTLResourceOptions)options {
  NW_CHECK(options == MTLResourceHazardTrackingModeUntracked, "options {}", options);
  NW_CHECK(length > 0 && length <= settings().largest_buffer, "a buffer of {}", length);
  if ([self currentAllocatedSize] + length > settings().working_set) return nil;
  return [[FakeBuffer alloc] initWithLength:length];
}
- (id<MTLBuffer>)newBufferWithBytesNoCopy:(void*)pointer
                                   length:(NSUInteger)length
                                  options:(MTLResourceOptions)options
                              deallocator:(void (^)(void*, NSUInteger))deallocator {
  NW_CHECK(options == MTLResourceHazardTrackingModeUntracked && !deallocator, "options");
  const auto page = static_cast<NSUInteger>(sysconf(_SC_PAGESIZE));
  NW_CHECK(length > 0 && length <= settings().largest_buffer, "a window of {}", length);
  std::vector<unsigned char> there(length / page);
  if (reinterpret_cast<uintptr_t>(pointer) % page != 0 || length % page != 0 ||
      mincore(pointer, length, there.data()) != 0 || !settings().maps_host_memory)
    return nil;
  return [[FakeBuffer alloc] initWithWindow:pointer length:length];
}
- (id<MTLLibrary>)newLibraryWithSource:(NSString*)source
                               options:(MTLCompileOptions*)options
                                 error:(NSError**)error {
  const std::string text = [source UTF8String];
  counts().fast_math = [options fastMathEnabled];
  std::string fault = settings().compile_error;
  if (text.find("\nNW_KERNELS(K_ENTRY)\n") == std::string::npos) fault = "no entry points";
  if (text.find("#include \"") != std::string::npos) fault = "file not found";
  if (fault.empty()) return [FakeLibrary new];
  *error = error_of(fault);
  return nil;
}
- (id<MTLComputePipelineState>)
    newComputePipelineStateWithDescriptor:(MTLComputePipelineDescriptor*)descriptor
                                  options:(MTLPipelineOption)options
                               reflection:(MTLComputePipelineReflection**)reflection
                                    error:(NSError**)error {
  NW_CHECK(options == MTLPipelineOptionNone && !reflection, "options");
  int n = 0;
  const int kernel = static_cast<FakeFunction*>([descriptor computeFunction])->kernel_;
  const FakeGpuKernel& k = fake_gpu_kernels(&n)[kernel];
  NW_CHECK([descriptor maxTotalThreadsPerThreadgroup] == static_cast<NSUInteger>(k.n_threads) &&
               [descriptor threadGroupSizeIsMultipleOfThreadExecutionWidth],
           "{}: {} threads", k.name, [descriptor maxTotalThreadsPerThreadgroup]);
  std::string fault;
  if (settings().broken_kernel == k.name) fault = "Compiler encountered an internal error";
  if (k.shared_bytes > 32768) fault = "Threadgroup memory size exceeds the maximum";
  if (!fault.empty()) {
    *error = error_of(fault);
    return nil;
  }
  FakePipeline* pipeline = [FakePipeline new];
  pipeline->kernel_ = kernel;
  return pipeline;
}
@end

id<MTLDevice> MTLCreateSystemDefaultDevice() {
  return settings().has_device ? [FakeDevice new] : nil;
}
