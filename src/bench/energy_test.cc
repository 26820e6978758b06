#include "bench/energy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace narwhal::bench {
namespace {

namespace fs = std::filesystem;

class Energy : public testing::Test {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() /
            ("narwhal_energy_" + std::to_string(testing::UnitTest::GetInstance()->random_seed()) +
             testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::create_directories(root_);
  }
  void TearDown() override { fs::remove_all(root_); }

  void zone(const std::string& folder, const std::string& name, uint64_t energy, uint64_t range) {
    fs::create_directories(root_ / folder);
    write(folder, "name", name);
    write(folder, "energy_uj", std::to_string(energy));
    write(folder, "max_energy_range_uj", std::to_string(range));
  }
  void write(const std::string& folder, const std::string& file, const std::string& text) {
    std::ofstream(root_ / folder / file) << text << "\n";
  }

  fs::path root_;
};

TEST_F(Energy, SumsPackagesAndLeavesTheirPartsOut) {
  zone("intel-rapl:0", "package-0", 5000000, 100000000);
  zone("intel-rapl:1", "package-1", 7000000, 100000000);
  zone("intel-rapl:0:0", "core", 1, 100000000);
  zone("intel-rapl:2", "psys", 1, 100000000);
  zone("intel-rapl-mmio:0", "package-0", 1, 100000000);
  auto meter = EnergyMeter::open(root_.string());
  ASSERT_TRUE(meter.has_value());
  EXPECT_EQ(meter->n_packages(), 2);
  EXPECT_DOUBLE_EQ(meter->joules(), 0);
  write("intel-rapl:0", "energy_uj", "6500000");
  write("intel-rapl:1", "energy_uj", "7250000");
  write("intel-rapl:0:0", "energy_uj", "90000000");
  EXPECT_DOUBLE_EQ(meter->joules(), 1.75);
  EXPECT_DOUBLE_EQ(meter->joules(), 1.75);
}

TEST_F(Energy, CountersWrap) {
  zone("intel-rapl:0", "package-0", 9000000, 10000000);
  auto meter = EnergyMeter::open(root_.string());
  ASSERT_TRUE(meter.has_value());
  write("intel-rapl:0", "energy_uj", "500000");
  EXPECT_DOUBLE_EQ(meter->joules(), 1.5);
}

TEST_F(Energy, AbsentWithoutReadablePackages) {
  EXPECT_FALSE(EnergyMeter::open((root_ / "nothing").string()).has_value());
  EXPECT_FALSE(EnergyMeter::open(root_.string()).has_value());
  zone("intel-rapl:0", "package-0", 1, 10);
  write("intel-rapl:0", "energy_uj", "not a number");
  EXPECT_FALSE(EnergyMeter::open(root_.string()).has_value());
}

}  // namespace
}  // namespace narwhal::bench
