#include "backend/emu/emu_kernels.h"

#include "base/check.h"

namespace narwhal {
namespace {

template <class K>
constexpr emu::EmulatedKernel emulated() {
  return {[](const void* kernel, const kernels::Group& g, void* shared) {
            if constexpr (!requires { K::kBeginsEarly; }) g.await_results();
            (*static_cast<const K*>(kernel))(g, static_cast<typename K::Shared*>(shared));
            // The launch behind it would take results for there that are not.
            NW_CHECK(g.machine->has_awaited(), "a kernel that begins early did not await results");
          },
          sizeof(K), sizeof(typename K::Shared)};
}

}  // namespace

namespace kernels {
static constexpr emu::EmulatedKernel kEmulated[] = {
#define NW_ENTRY(name, ...) emulated<__VA_ARGS__>(),
    NW_KERNELS(NW_ENTRY)
#undef NW_ENTRY
};
}  // namespace kernels

const emu::EmulatedKernel& emu::kernel_of(gpu::KernelId id) {
  return kernels::kEmulated[static_cast<int>(id)];
}

}  // namespace narwhal
