#include "base/topology.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#ifdef __linux__
#include <sched.h>

#include <atomic>
#include <thread>

#include "base/threads.h"
#endif

namespace narwhal {
namespace {

namespace fs = std::filesystem;
using Seats = std::vector<std::vector<int>>;

// A folder with /sys and /proc of a machine that is not this one.
class Topology : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::path(testing::TempDir()) / (std::string("topology_") + test->name());
    fs::remove_all(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void write(const std::string& path, const std::string& text) const {
    const fs::path file = root_ / path;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text << '\n';
  }
  void online(const std::string& list) const { write("sys/devices/system/cpu/online", list); }
  void siblings(int cpu, const std::string& list) const {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list",
          list);
  }
  void nodes(const std::vector<std::string>& lists) const {
    write("sys/devices/system/node/online", "0-" + std::to_string(lists.size() - 1));
    for (size_t i = 0; i < lists.size(); i++)
      write("sys/devices/system/node/node" + std::to_string(i) + "/cpulist", lists[i]);
  }
  // Two nodes of four cores with two hardware threads: n and n + 8.
  void two_sockets() const {
    online("0-15");
    for (int cpu = 0; cpu < 16; cpu++)
      siblings(cpu, std::to_string(cpu % 8) + "," + std::to_string(cpu % 8 + 8));
    nodes({"0-3,8-11", "4-7,12-15"});
  }
  std::vector<Cpu> cpus() const { return read_cpus(root_.string()); }
  std::optional<double> quota() const { return cpu_quota(root_.string()); }
  static std::vector<Cpu> only(std::vector<Cpu> all, const std::vector<int>& allowed) {
    std::erase_if(all, [&](const Cpu& c) {
      return std::find(allowed.begin(), allowed.end(), c.id) == allowed.end();
    });
    return all;
  }

  fs::path root_;
};

TEST_F(Topology, ListsAreReadAsTheKernelWritesThem) {
  EXPECT_EQ(parse_cpu_list("0-3,8,10-11\n"), (std::vector<int>{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("0"), (std::vector<int>{0}));
  EXPECT_EQ(parse_cpu_list("\n"), std::vector<int>()) << "a node without processors";
  for (const char* bad : {"a", "3-1", "1,", "1,,2", "-1", "1-", "0-99999999", "1 2"})
    EXPECT_EQ(parse_cpu_list(bad), std::nullopt) << bad;
}

TEST_F(Topology, HardwareThreadsOfACoreAreOneSeat) {
  online("0-3");
  for (int cpu = 0; cpu < 4; cpu++) siblings(cpu, cpu < 2 ? "0-1" : "2-3");
  EXPECT_EQ(cores_to_use(cpus(), {}), 2);
  EXPECT_EQ(cpus_to_use(cpus(), {}), 4);
  EXPECT_EQ(seats(cpus(), 2, {}, Pin::kOn), (Seats{{0, 1}, {2, 3}}));
  EXPECT_EQ(seats(cpus(), 1, {}, Pin::kOn), (Seats{{0, 1}}));
}

TEST_F(Topology, NeighboursSitOnDifferentNodes) {
  two_sockets();
  EXPECT_EQ(cores_to_use(cpus(), {}), 8);
  EXPECT_EQ(seats(cpus(), 4, {}, Pin::kAuto), (Seats{{0, 8}, {4, 12}, {1, 9}, {5, 13}}));
  const Seats all = seats(cpus(), 8, {}, Pin::kAuto);
  ASSERT_EQ(all.size(), 8u);
  EXPECT_EQ(all[7], (std::vector<int>{7, 15}));
}

TEST_F(Topology, TooManyThreadsAreLeftToTheSystem) {
  two_sockets();
  EXPECT_EQ(seats(cpus(), 8, {}, Pin::kOn).size(), 8u);
  EXPECT_EQ(seats(cpus(), 9, {}, Pin::kOn), Seats());
  EXPECT_EQ(seats(cpus(), 4, {}, Pin::kOff), Seats());
}

TEST_F(Topology, AutoNeedsSeveralNodes) {
  online("0-1");
  nodes({"0-1"});
  EXPECT_EQ(seats(cpus(), 2, {}, Pin::kAuto), Seats());
  EXPECT_EQ(seats(cpus(), 2, {}, Pin::kOn), (Seats{{0}, {1}}));
  nodes({"0-1", ""});  // memory alone
  EXPECT_EQ(seats(cpus(), 2, {}, Pin::kAuto), Seats());
}

TEST_F(Topology, OfflineProcessorsAndOddNodes) {
  two_sockets();
  online("0-2,4-15");  // 3 is off, its sibling 11 is a core alone
  siblings(11, "11");
  const auto all = cpus();
  EXPECT_EQ(all.size(), 15u);
  EXPECT_EQ(cores_to_use(all, {}), 8);
  const Seats taken = seats(all, 8, {}, Pin::kAuto);
  ASSERT_EQ(taken.size(), 8u);
  EXPECT_EQ(taken[6], (std::vector<int>{11}));
}

TEST_F(Topology, AMaskLeavesOnlyWhatItAllows) {
  two_sockets();
  const auto some = only(cpus(), {1, 8, 9, 5});
  EXPECT_EQ(cores_to_use(some, {}), 3);
  EXPECT_EQ(seats(some, 3, {}, Pin::kAuto), (Seats{{8}, {5}, {1, 9}}));
  EXPECT_EQ(seats(some, 4, {}, Pin::kAuto), Seats());
  EXPECT_EQ(seats(only(cpus(), {0, 1, 2}), 2, {}, Pin::kAuto), Seats()) << "one node is left";
}

TEST_F(Topology, QuotasOfControlGroupsCount) {
  two_sockets();
  EXPECT_EQ(quota(), std::nullopt);
  write("proc/self/cgroup", "1:cpu:/old\n0::/user/job");
  write("sys/fs/cgroup/user/job/cpu.max", "max 100000");
  EXPECT_EQ(quota(), std::nullopt);
  write("sys/fs/cgroup/user/cpu.max", "350000 100000");
  EXPECT_EQ(quota(), 3.5);
  write("sys/fs/cgroup/user/job/cpu.max", "50000 100000");
  EXPECT_EQ(quota(), 0.5) << "the least of all";
  EXPECT_EQ(cores_to_use(cpus(), 3.5), 3);
  EXPECT_EQ(cores_to_use(cpus(), 0.5), 1);
  EXPECT_EQ(cores_to_use(cpus(), 64), 8);
  EXPECT_EQ(cpus_to_use(cpus(), 11.5), 11);
  EXPECT_EQ(cpus_to_use(cpus(), 64), 16);
  EXPECT_EQ(seats(cpus(), 3, 3.5, Pin::kOn).size(), 3u);
  EXPECT_EQ(seats(cpus(), 4, 3.5, Pin::kOn), Seats());
}

TEST_F(Topology, AGroupOfTheMachineOutsideIsNoLimit) {
  write("proc/self/cgroup", "0::/docker/abc");
  write("sys/fs/cgroup/cpu.max", "200000 100000");
  EXPECT_EQ(quota(), 2.0);
}

TEST_F(Topology, WhatIsNotToldIsNotGuessed) {
  EXPECT_TRUE(cpus().empty());
  EXPECT_EQ(cores_to_use(cpus(), 4), 0);
  EXPECT_EQ(cpus_to_use(cpus(), 4), 0);
  EXPECT_EQ(seats(cpus(), 1, {}, Pin::kOn), Seats());
  online("0-3");  // no nodes, no siblings
  EXPECT_EQ(seats(cpus(), 2, {}, Pin::kOn), (Seats{{0}, {1}}));
}

TEST_F(Topology, NamesOfPinning) {
  EXPECT_EQ(*find_pin("auto"), Pin::kAuto);
  EXPECT_EQ(*find_pin("on"), Pin::kOn);
  EXPECT_EQ(*find_pin("off"), Pin::kOff);
  EXPECT_EQ(find_pin("perhaps").status().code(), Code::kUsage);
}

#ifdef __linux__
TEST(Seats, WorkersStayOnTheirsAndTheCallerIsFree) {
  const auto cpus = usable_cpus();
  if (cpus.empty()) GTEST_SKIP() << "the system does not tell";
  cpu_set_t before, after;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  for (const Cpu& c : cpus) {
    ThreadPool pool(2, {{cpus[0].id}, {c.id}});
    std::atomic<int> n_begun = 0, cpu = -1, n_allowed = 0;
    pool.run(2, 1, [&](int64_t, int64_t, int thread) {
      n_begun++;
      while (n_begun < 2) std::this_thread::yield();  // so that both take one
      if (thread == 0) return;
      cpu_set_t mine;
      if (sched_getaffinity(0, sizeof mine, &mine) == 0) n_allowed = CPU_COUNT(&mine);
      cpu = sched_getcpu();
    });
    EXPECT_EQ(cpu, c.id);
    EXPECT_EQ(n_allowed, 1);
  }
  ASSERT_EQ(sched_getaffinity(0, sizeof after, &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
}
#endif

}  // namespace
}  // namespace narwhal
