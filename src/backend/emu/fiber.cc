#include "backend/emu/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "base/check.h"

#if defined(__SANITIZE_THREAD__)
#define NW_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NW_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define NW_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NW_ASAN 1
#endif
#endif
#ifdef NW_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef NW_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace narwhal::emu {

void fiber_entry(Fiber* fiber);

extern "C" {
// Saves the callee-saved registers on the stack, stores the stack pointer, continues another stack.
void nw_fiber_switch(void** save_sp, void* sp);
void nw_fiber_start();
void nw_fiber_enter(Fiber* fiber) { fiber_entry(fiber); }
}

#ifdef __APPLE__
#define NW_SYMBOL(name) "_" #name
#else
#define NW_SYMBOL(name) #name
#endif

#if defined(__x86_64__)
asm(".text\n.globl " NW_SYMBOL(nw_fiber_switch) "\n" NW_SYMBOL(nw_fiber_switch) ":\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n"
    ".globl " NW_SYMBOL(nw_fiber_start) "\n" NW_SYMBOL(nw_fiber_start) ":\n"
    "  movq %rbx, %rdi\n  call " NW_SYMBOL(nw_fiber_enter) "\n  ud2\n");

// What nw_fiber_switch finds on a fresh stack: the fiber in rbx, then the entry's address.
static void* fresh_stack(std::byte* top, Fiber* fiber) {
  auto* sp = reinterpret_cast<void**>(top) - 9;  // keeps the stack aligned to 16 at the entry
  sp[0] = sp[1] = sp[2] = sp[3] = sp[5] = nullptr;
  sp[4] = fiber;
  sp[6] = reinterpret_cast<void*>(&nw_fiber_start);
  return sp;
}
#elif defined(__aarch64__)
asm(".text\n.globl " NW_SYMBOL(nw_fiber_switch) "\n" NW_SYMBOL(nw_fiber_switch) ":\n"
    "  stp x29, x30, [sp, #-160]!\n  stp x19, x20, [sp, #16]\n  stp x21, x22, [sp, #32]\n"
    "  stp x23, x24, [sp, #48]\n  stp x25, x26, [sp, #64]\n  stp x27, x28, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n"
    "  stp d14, d15, [sp, #144]\n  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp, #16]\n  ldp x21, x22, [sp, #32]\n  ldp x23, x24, [sp, #48]\n"
    "  ldp x25, x26, [sp, #64]\n  ldp x27, x28, [sp, #80]\n  ldp d8, d9, [sp, #96]\n"
    "  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  ldp x29, x30, [sp], #160\n  ret\n"
    ".globl " NW_SYMBOL(nw_fiber_start) "\n" NW_SYMBOL(nw_fiber_start) ":\n"
    "  mov x0, x19\n  bl " NW_SYMBOL(nw_fiber_enter) "\n  brk #1\n");

static void* fresh_stack(std::byte* top, Fiber* fiber) {
  auto* sp = reinterpret_cast<void**>(top) - 20;
  for (int i = 0; i < 20; i++) sp[i] = nullptr;
  sp[1] = reinterpret_cast<void*>(&nw_fiber_start);
  sp[2] = fiber;
  return sp;
}
#else
#error "the emulator knows x86-64 and arm64"
#endif

namespace {

constexpr size_t kStackBytes = 256 << 10;

}  // namespace

void fiber_entry(Fiber* fiber) {
#ifdef NW_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  fiber->body_(fiber->argument_);
  NW_CHECK(false, "a fiber returned");
}

Fiber::Fiber(Body body, void* argument) : body_(body), argument_(argument), size_(kStackBytes) {
  void* p = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  NW_CHECK(p != MAP_FAILED, "no memory for the stack of a fiber");
  stack_ = static_cast<std::byte*>(p);
  bottom_ = stack_;
  sp_ = fresh_stack(stack_ + size_, this);
#ifdef NW_TSAN
  sanitizer_ = __tsan_create_fiber(0);
#endif
}

Fiber::Fiber() {
#ifdef NW_TSAN
  sanitizer_ = __tsan_get_current_fiber();
#endif
#if defined(NW_ASAN) && defined(__linux__)
  pthread_attr_t attributes;
  void* bottom = nullptr;
  NW_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0, "no stack bounds");
  pthread_attr_getstack(&attributes, &bottom, &size_);
  pthread_attr_destroy(&attributes);
  bottom_ = bottom;
#endif
}

Fiber::~Fiber() {
#ifdef NW_TSAN
  if (stack_) __tsan_destroy_fiber(sanitizer_);
#endif
#ifdef NW_ASAN
  if (stack_) __asan_unpoison_memory_region(stack_, size_);  // others may get these pages
#endif
  if (stack_) munmap(stack_, size_);
}

#if defined(__clang__) || defined(__GNUC__)
__attribute__((no_sanitize("thread")))
#endif
void Fiber::run(Fiber& from, Fiber& to) {
#ifdef NW_TSAN
  __tsan_switch_to_fiber(to.sanitizer_, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef NW_ASAN
  __sanitizer_start_switch_fiber(&from.sanitizer_, to.bottom_, to.size_);
#endif
  nw_fiber_switch(&from.sp_, to.sp_);
#ifdef NW_ASAN
  __sanitizer_finish_switch_fiber(from.sanitizer_, nullptr, nullptr);
#endif
}

void order_before([[maybe_unused]] void* point) {
#ifdef NW_TSAN
  __tsan_release(point);
#endif
}

void order_after([[maybe_unused]] void* point) {
#ifdef NW_TSAN
  __tsan_acquire(point);
#endif
}

}  // namespace narwhal::emu
