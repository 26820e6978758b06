#include "lanes.h"

#include "backend/emu/machine.h"

namespace {

using narwhal::emu::Machine;

struct Launch {
  LanesBody body;
  const void* kernel;
};
thread_local Machine* machine = nullptr;

}  // namespace

void lanes_launch(LanesBody body, const void* kernel, int64_t shared_bytes, int64_t n_groups,
                  int n_threads) {
  static thread_local Machine mine;
  machine = &mine;
  const Launch launch{body, kernel};
  mine.launch(
      [](const void* l, const narwhal::kernels::Group& g, void* shared) {
        const auto& of = *static_cast<const Launch*>(l);
        of.body(of.kernel, g.group, g.index, g.size, shared);
      },
      &launch, shared_bytes, n_groups, n_threads);
}

int lanes_index() { return machine->lane(); }
void lanes_group_barrier() { machine->barrier(); }
void lanes_barrier() { machine->simd_barrier(); }
const uint32_t* lanes_exchange(const uint32_t* values, int n) {
  return machine->exchange(values, n);
}
