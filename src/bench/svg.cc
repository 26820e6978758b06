// The plot: two panels, prefill and decode speed over the context, with the range of the
// repetitions as a band and the roofline as a dashed line. No scripts, no fonts, no links: one file
// that can be pasted, light or dark.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "bench/report.h"
#include "bench/traffic.h"

namespace narwhal::bench {
namespace {

constexpr double kWidth = 960, kHeight = 420;
constexpr double kPanelWidth = 400, kPanelHeight = 250, kTop = 92;

std::string escape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

// A step of 1, 2 or 5 times a power of ten that gives about five ticks up to `top`.
double tick_step(double top) {
  const double raw = top / 5, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double m : {1.0, 2.0, 5.0})
    if (m * power >= raw) return m * power;
  return 10 * power;
}

std::string context_text(int64_t ctx) {
  return ctx >= 1024 && ctx % 1024 == 0 ? fmt::format("{}k", ctx / 1024) : fmt::to_string(ctx);
}

// One value per frontier with its range.
struct Series {
  std::string title, css;
  std::vector<int64_t> ctx;
  std::vector<Spread> values;
  std::vector<double> limit;  // roofline; empty = none
};

class Panel {
 public:
  Panel(double left, const Series& series) : left_(left), s_(series) {
    for (const Spread& v : s_.values) top_ = std::max(top_, v.max);
    // A roofline far above the curve would flatten it; it is then left to the figures.
    for (const double v : s_.limit) shows_limit_ = shows_limit_ && v < 3 * top_;
    shows_limit_ = shows_limit_ && !s_.limit.empty();
    if (shows_limit_) top_ = std::max(top_, *std::max_element(s_.limit.begin(), s_.limit.end()));
    if (!(top_ > 0)) top_ = 1;
    step_ = tick_step(top_);
    top_ = std::ceil(top_ * 1.05 / step_) * step_;
    log_ = s_.ctx.back() > 4 * s_.ctx.front();
  }

  std::string draw() const {
    std::string out = fmt::format("<text class=\"t\" x=\"{:.1f}\" y=\"{}\">{}</text>\n", left_,
                                  kTop - 12, escape(s_.title));
    out += axes() + band();
    std::string line, limit, marks;
    for (size_t i = 0; i < s_.ctx.size(); i++) {
      line += fmt::format("{:.1f},{:.1f} ", x(i), y(s_.values[i].median));
      marks += fmt::format(
          "<circle class=\"{0}\" cx=\"{1:.1f}\" cy=\"{2:.1f}\" r=\"3.5\"><title>{3:.4g} at {4}"
          "</title></circle>\n",
          s_.css, x(i), y(s_.values[i].median), s_.values[i].median, s_.ctx[i]);
      if (shows_limit_) limit += fmt::format("{:.1f},{:.1f} ", x(i), y(s_.limit[i]));
    }
    if (shows_limit_) {
      if (s_.ctx.size() == 1)
        limit = fmt::format("{:.1f},{:.1f} {:.1f},{:.1f}", left_, y(s_.limit[0]),
                            left_ + kPanelWidth, y(s_.limit[0]));
      out += fmt::format("<polyline class=\"limit\" points=\"{}\"/>\n", limit);
      out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">roofline</text>\n",
                         left_ + kPanelWidth, y(s_.limit.back()) - 6);
    }
    out += fmt::format("<polyline class=\"line {}\" points=\"{}\"/>\n", s_.css, line) + marks;
    out += fmt::format(
        "<text class=\"v\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{:.4g}</text>\n",
        x(s_.ctx.size() - 1), y(s_.values.back().median) + 18,
        s_.ctx.size() == 1 ? "middle" : "end", s_.values.back().median);
    return out;
  }

 private:
  double x(size_t i) const {
    const auto at = [&](int64_t c) {
      return log_ ? std::log2(static_cast<double>(c)) : static_cast<double>(c);
    };
    const double lo = at(s_.ctx.front()), hi = at(s_.ctx.back());
    return left_ + kPanelWidth * (hi > lo ? 0.04 + 0.92 * (at(s_.ctx[i]) - lo) / (hi - lo) : 0.5);
  }
  double y(double v) const { return kTop + kPanelHeight * (1 - v / top_); }

  std::string axes() const {
    std::string out;
    for (int i = 0; i * step_ <= top_ * 1.0001; i++) {
      const double v = i * step_;
      out += fmt::format(
          "<line class=\"grid\" x1=\"{0:.1f}\" y1=\"{1:.1f}\" x2=\"{2:.1f}\" y2=\"{1:.1f}\"/>"
          "<text x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:.4g}</text>\n",
          left_, y(v), left_ + kPanelWidth, left_ - 6, y(v) + 4, v);
    }
    double last = -1e9;
    for (size_t i = 0; i < s_.ctx.size(); i++) {
      if (x(i) - last < 34) continue;  // labels would touch
      last = x(i);
      out += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n", x(i),
                         kTop + kPanelHeight + 18, context_text(s_.ctx[i]));
    }
    return out + fmt::format(
                     "<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">context, "
                     "tokens</text>\n",
                     left_ + kPanelWidth / 2, kTop + kPanelHeight + 36);
  }

  std::string band() const {
    std::string points;
    for (size_t i = 0; i < s_.ctx.size(); i++)
      points += fmt::format("{:.1f},{:.1f} ", x(i), y(s_.values[i].max));
    for (size_t i = s_.ctx.size(); i-- > 0;)
      points += fmt::format("{:.1f},{:.1f} ", x(i), y(s_.values[i].min));
    return fmt::format("<polygon class=\"band {}\" points=\"{}\"/>\n", s_.css, points);
  }

  double left_;
  const Series& s_;
  double top_ = 0, step_ = 1;
  bool log_ = false, shows_limit_ = true;
};

constexpr std::string_view kStyle =
    "<style>\n"
    "svg { font: 12px system-ui, sans-serif; background: #fff; }\n"
    "text { fill: #444; } .t { font-size: 14px; font-weight: 600; fill: #111; }\n"
    ".h { font-size: 17px; font-weight: 600; fill: #111; } .v { font-weight: 600; }\n"
    ".grid { stroke: #ddd; } .line { fill: none; stroke-width: 2; } .band { opacity: 0.18; }\n"
    ".limit { fill: none; stroke: #888; stroke-dasharray: 5 4; }\n"
    ".p { stroke: #0b6fa4; fill: #0b6fa4; } .d { stroke: #b3541e; fill: #b3541e; }\n"
    ".line.p, .line.d { fill: none; } .band { stroke: none; }\n"
    "@media (prefers-color-scheme: dark) {\n"
    "svg { background: #15181c; } text { fill: #b8bec6; } .t, .h { fill: #eee; }\n"
    ".grid { stroke: #30353c; }\n"
    ".p { stroke: #55b4e6; fill: #55b4e6; } .d { stroke: #ee9a62; fill: #ee9a62; }\n"
    ".line.p, .line.d { fill: none; } .band { stroke: none; }\n"
    "}\n"
    "</style>\n";

}  // namespace

std::string report_svg(const Report& r) {
  const Setting& s = r.setting;
  Series prefill{"prefill, tokens per second", "p", {}, {}, {}};
  Series decode{"decode, tokens per second", "d", {}, {}, {}};
  for (const Frontier& f : r.frontiers) {
    prefill.ctx.push_back(f.point.ctx);
    prefill.values.push_back(f.point.prefill_tps);
    prefill.limit.push_back(fraction(s.limits.vector_gops(), f.prefill_gop));
    decode.ctx.push_back(f.point.ctx);
    decode.values.push_back(f.point.decode_tps);
    decode.limit.push_back(
        fraction(s.limits.read.gb_per_s * 1e9, static_cast<double>(f.weight_bytes + f.kv_bytes)));
  }
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\" role=\"img\">\n<title>narwhal bench: {2}</title>\n",
      kWidth, kHeight, escape(r.model));
  out += kStyle;
  out += fmt::format("<text class=\"h\" x=\"24\" y=\"30\">{}</text>\n", escape(r.model));
  out += fmt::format(
      "<text x=\"24\" y=\"50\">{}</text>\n",
      escape(fmt::format("{}, {} threads, {:.1f} GB/s reads, {:.0f} Gop/s integers; narwhal {} {}, "
                         "{}",
                         s.machine.cpu, s.n_threads, s.limits.read.gb_per_s, s.limits.vector_gops(),
                         s.version, s.commit, s.date.substr(0, 10))));
  if (!r.frontiers.empty()) out += Panel(60, prefill).draw() + Panel(540, decode).draw();
  return out + "</svg>\n";
}

}  // namespace narwhal::bench
