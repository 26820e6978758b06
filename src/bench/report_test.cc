#include "bench/report.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "base/json.h"
#include "bench/ops_bench.h"

namespace narwhal::bench {
namespace {

Report sample(bool meter) {
  Report r;
  r.setting.machine.cpu = "CPU \"X\", <fast> & cheap";
  r.setting.machine.n_cores = 2;
  r.setting.machine.memory = uint64_t{16} << 30;
  r.setting.limits.n_threads = 2;
  r.setting.limits.read = {20, uint64_t{4} << 30, false};
  r.setting.limits.peaks = {{"vnni", false, 1000}, {"amx", true, 8000}};
  r.setting.date = "2026-03-01T12:00:00Z";
  r.setting.version = "1.0";
  r.setting.commit = "abc";
  r.setting.backend = "cpu";
  r.setting.level = "current";
  r.setting.n_threads = 2;
  r.setting.has_meter = meter;
  r.model = "A <model> & \"co\", large";
  r.path = "m.gguf";
  r.model_bytes = 123;
  r.repeat = 3;
  for (const int64_t ctx : {512, 1024, 4096}) {
    Frontier f;
    f.point.ctx = ctx;
    f.point.interval_begin = ctx - 500;
    f.point.n_decode = 32;
    f.point.prefill_tps = {10, 9, 11};
    f.point.decode_tps = {1.5, 1.25, 1.75};
    f.point.decode_joules = {20, 19, 21};
    f.weight_bytes = 9000000000;
    f.kv_bytes = 1000000000;
    f.prefill_gop = 25;
    r.frontiers.push_back(f);
  }
  return r;
}

std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> lines{{""}};
  bool quoted = false;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (quoted && c == '"' && i + 1 < text.size() && text[i + 1] == '"') {
      lines.back().back() += text[++i];
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == ',') {
      lines.back().emplace_back();
    } else if (!quoted && c == '\n') {
      lines.push_back({""});
    } else {
      lines.back().back() += c;
    }
  }
  EXPECT_FALSE(quoted);
  EXPECT_EQ(lines.back(), std::vector<std::string>{""}) << "the last line has no end";
  lines.pop_back();
  return lines;
}

// The cell of a line under the header's name.
std::string field(const std::vector<std::vector<std::string>>& csv, size_t line,
                  const std::string& name) {
  for (size_t i = 0; i < csv[0].size(); i++)
    if (csv[0][i] == name) return csv.at(line).at(i);
  ADD_FAILURE() << "no column " << name;
  return "";
}

// Names of elements in order when `text` is well-formed: tags nest, attributes are quoted, entities
// are known.
std::vector<std::string> parse_xml(const std::string& text) {
  std::vector<std::string> open, names;
  size_t at = 0;
  const auto fail = [&](const char* what) {
    ADD_FAILURE() << what << " at byte " << at << ": " << text.substr(at, 60);
    return names;
  };
  while (at < text.size()) {
    if (text[at] == '&') {
      const std::string entity = text.substr(at, text.find(';', at) - at);
      if (entity != "&amp" && entity != "&lt" && entity != "&gt" && entity != "&quot")
        return fail("unknown entity");
    }
    if (text[at] == '>') return fail("stray >");
    if (text[at] != '<') {
      at++;
      continue;
    }
    size_t end = at + 1;
    for (char quote = 0; end < text.size() && (quote != 0 || text[end] != '>'); end++) {
      if (quote == 0 && (text[end] == '"' || text[end] == '<'))
        quote = text[end];
      else if (text[end] == quote)
        quote = 0;
    }
    if (end >= text.size()) return fail("tag without end");
    const std::string tag = text.substr(at + 1, end - at - 1);
    const std::string name =
        tag.substr(tag[0] == '/', tag.find_first_of(" /", 1) - (tag[0] == '/'));
    if (tag[0] == '/') {
      if (open.empty() || open.back() != name) return fail("tag closes another");
      open.pop_back();
    } else {
      names.push_back(name);
      if (tag.back() != '/') open.push_back(name);
    }
    at = end + 1;
  }
  EXPECT_TRUE(open.empty());
  return names;
}

TEST(Report, FractionsOfTheRoofline) {
  const Report r = sample(false);
  const Frontier& f = r.frontiers[0];
  EXPECT_DOUBLE_EQ(decode_gb_per_s(f), 15);
  EXPECT_DOUBLE_EQ(decode_of_read(f, r.setting.limits), 0.75);
  EXPECT_DOUBLE_EQ(prefill_gops(f), 250);
  EXPECT_DOUBLE_EQ(prefill_of_vector(f, r.setting.limits), 0.25);
  EXPECT_DOUBLE_EQ(prefill_of_matrix(f, r.setting.limits), 0.03125);
  EXPECT_EQ(prefill_of_matrix(f, Limits{}), 0);
}

TEST(Report, CsvReadsBack) {
  const Report r = sample(false);
  const auto csv = parse_csv(report_csv(r));
  ASSERT_EQ(csv.size(), 4u);
  for (const auto& line : csv) EXPECT_EQ(line.size(), csv[0].size());
  EXPECT_EQ(field(csv, 1, "machine"), r.setting.machine.cpu);
  EXPECT_EQ(field(csv, 1, "model"), r.model);
  EXPECT_EQ(field(csv, 1, "commit"), "abc");
  EXPECT_EQ(field(csv, 3, "ctx"), "4096");
  EXPECT_EQ(field(csv, 1, "of_read"), "0.75");
  EXPECT_EQ(field(csv, 1, "bytes_per_token"), "10000000000");
  EXPECT_EQ(field(csv, 1, "decode_joules"), "");
  EXPECT_EQ(field(parse_csv(report_csv(sample(true))), 1, "decode_joules"), "20");
}

TEST(Report, JsonReadsBack) {
  const Report r = sample(true);
  const auto j = Json::parse(report_json(r));
  ASSERT_TRUE(j.ok());
  EXPECT_EQ((*j)["machine"]["cpu"].text, r.setting.machine.cpu);
  EXPECT_EQ((*j)["limits"]["integer_peaks"].items.size(), 2u);
  ASSERT_EQ((*j)["frontiers"].items.size(), 3u);
  const Json& f = (*j)["frontiers"].items[0];
  EXPECT_EQ(f["ctx"].as_int(), 512);
  EXPECT_DOUBLE_EQ(f["decode"]["tokens_per_s"]["median"].as_double(), 1.5);
  EXPECT_DOUBLE_EQ(f["decode"]["of_read_bandwidth"].as_double(), 0.75);
  EXPECT_DOUBLE_EQ(f["decode"]["joules_per_token"]["median"].as_double(), 20);
  const auto without = Json::parse(report_json(sample(false)));
  EXPECT_TRUE((*without)["frontiers"].items[0]["decode"]["joules_per_token"].is_null());
  EXPECT_EQ((*without)["energy"].text, "not available");
}

TEST(Report, SvgIsWellFormedAndStandsAlone) {
  Report r = sample(false);
  const std::string svg = report_svg(r);
  const auto names = parse_xml(svg);
  ASSERT_FALSE(names.empty());
  EXPECT_EQ(names[0], "svg");
  EXPECT_EQ(std::count(names.begin(), names.end(), "circle"), 6);
  EXPECT_EQ(svg.find("href"), svg.npos);
  EXPECT_EQ(svg.find("nan"), svg.npos);
  EXPECT_EQ(svg.find("inf"), svg.npos);
  EXPECT_NE(svg.find("A &lt;model&gt; &amp; &quot;co&quot;, large"), svg.npos);
  r.frontiers.resize(1);  // a single point has no width
  EXPECT_FALSE(parse_xml(report_svg(r)).empty());
  EXPECT_EQ(report_svg(r).find("nan"), svg.npos);
  r.frontiers.clear();
  EXPECT_FALSE(parse_xml(report_svg(r)).empty());
}

TEST(Report, TableSaysWhatIsMissing) {
  EXPECT_NE(report_table(sample(false)).find("not available"), std::string::npos);
  EXPECT_NE(report_table(sample(true)).find("J per decoded token"), std::string::npos);
  Report r = sample(false);
  r.setting.limits.read.reduced = true;
  EXPECT_NE(report_table(r).find("memory did not allow"), std::string::npos);
}

TEST(Report, MemoryStandsBesideItsPlan) {
  MemoryPlan plan;
  plan.n_ctx = 2048;
  plan.n_sessions = 2;
  plan.weights_bytes = 1000 << 20;
  plan.kv_session_bytes = 10 << 20;
  plan.frontier_bytes = 5 << 20;
  plan.workspace_bytes = 100 << 20;
  plan.kept_bytes = 60 << 20;
  plan.scoring_bytes = 7 << 20;
  plan.available_bytes = uint64_t{4000} << 20;
  const std::string line = plan_text(plan);
  for (const char* part : {"1000 MiB of weights and 130 MiB", "2 sessions of 2048", "120 MiB more",
                           "7 MiB to score", "4000 MiB are available"})
    EXPECT_NE(line.find(part), std::string::npos) << part << " in " << line;
  Report r = sample(false);
  EXPECT_EQ(report_table(r).find("planned"), std::string::npos) << "the system did not tell";
  r.planned_bytes = plan.run_bytes();
  r.most_bytes = plan.most_bytes();
  r.used_bytes = 131 << 20;
  r.memory = MemoryUse{132 << 20, 999 << 20};
  EXPECT_NE(report_table(r).find("130 MiB planned beside the weights (at most 257), 131 MiB used, "
                                 "132 MiB taken by the process; 999 MiB of mapped"),
            std::string::npos);
  EXPECT_EQ(field(parse_csv(report_csv(r)), 1, "used_bytes"), std::to_string(131 << 20));
}

TEST(Report, LoadingStandsBesideTheBus) {
  Report r = sample(false);
  EXPECT_EQ(report_table(r).find("load      "), std::string::npos) << "nothing was loaded";
  EXPECT_EQ(field(parse_csv(report_csv(r)), 1, "load_gbs"), "");
  EXPECT_TRUE((*Json::parse(report_json(r)))["load"].is_null());
  r.load = {9'000'000'000, 0.25};
  EXPECT_NE(report_table(r).find("9.00 GB of weights in 0.25 s, 36.0 GB/s\n"), std::string::npos)
      << report_table(r);
  EXPECT_EQ(field(parse_csv(report_csv(r)), 1, "of_bus"), "");
  r.setting.limits.bus_gb_per_s = 48;
  EXPECT_NE(report_table(r).find("36.0 GB/s, 75.0% of the bus (48.0 GB/s)\n"), std::string::npos);
  const auto csv = parse_csv(report_csv(r));
  EXPECT_EQ(field(csv, 1, "load_bytes"), "9000000000");
  EXPECT_EQ(field(csv, 3, "load_seconds"), "0.25");
  EXPECT_EQ(field(csv, 3, "load_gbs"), "36");
  EXPECT_EQ(field(csv, 1, "bus_gbs"), "48");
  EXPECT_EQ(field(csv, 1, "of_bus"), "0.75");
  const auto j = Json::parse(report_json(r));
  ASSERT_TRUE(j.ok());
  EXPECT_DOUBLE_EQ((*j)["load"]["gb_per_s"].as_double(), 36);
  EXPECT_DOUBLE_EQ((*j)["load"]["of_bus"].as_double(), 0.75);
  EXPECT_DOUBLE_EQ((*j)["limits"]["bus_gb_per_s"].as_double(), 48);
}

TEST(OpsReport, CsvAndJsonReadBack) {
  OpsReport r;
  r.setting = sample(false).setting;
  r.rows = {{"avx512", "matvec", "q8_0", 1, 1000, 2000, 0.001, 0.001, 0.004, 0.5}};
  const auto csv = parse_csv(ops_csv(r));
  ASSERT_EQ(csv.size(), 2u);
  EXPECT_EQ(csv[0].size(), csv[1].size());
  EXPECT_EQ(field(csv, 1, "format"), "q8_0");
  EXPECT_EQ(field(csv, 1, "us"), "1000");
  const auto j = Json::parse(ops_json(r));
  ASSERT_TRUE(j.ok());
  EXPECT_DOUBLE_EQ((*j)["ops"].items[0]["of_limit"].as_double(), 0.5);
  EXPECT_NE(ops_table(r).find("1.000 ms"), std::string::npos);
}

}  // namespace
}  // namespace narwhal::bench
