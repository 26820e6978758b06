#include "cli/terminal.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>

namespace narwhal::cli {
namespace {

// A signal handler can reach nothing but globals.
volatile std::sig_atomic_t n_interrupts = 0;
volatile std::sig_atomic_t second_interrupt_ends = 0;
struct sigaction previous_action;

extern "C" void on_interrupt(int) {
  if (n_interrupts > 0 && second_interrupt_ends) _exit(130);
  n_interrupts = 1;
}

constexpr std::string_view kGrey = "\033[90m", kPlain = "\033[0m";

}  // namespace

InterruptGuard::InterruptGuard(bool second_ends) {
  n_interrupts = 0;
  second_interrupt_ends = second_ends;
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &previous_action);
}

InterruptGuard::~InterruptGuard() { sigaction(SIGINT, &previous_action, nullptr); }

bool InterruptGuard::interrupted() { return n_interrupts > 0; }

AnswerPrinter::AnswerPrinter() : on_terminal_(isatty(STDOUT_FILENO) != 0) {}

void AnswerPrinter::put(std::string_view text) {
  if (text.empty()) return;
  const std::string shown = on_terminal_ ? printable(text) : std::string(text);
  std::fwrite(shown.data(), 1, shown.size(), stdout);
  std::fflush(stdout);
  last_ = text.back();
  wrote_ = true;
}

void AnswerPrinter::reasoning(std::string_view text) {
  if (!on_terminal_ || text.empty()) return;
  if (!in_reasoning_) std::fwrite(kGrey.data(), 1, kGrey.size(), stdout);
  in_reasoning_ = true;
  put(text);
}

void AnswerPrinter::leave_reasoning() {
  if (!in_reasoning_) return;
  in_reasoning_ = false;
  std::fwrite(kPlain.data(), 1, kPlain.size(), stdout);
  put(last_ == '\n' ? "\n" : "\n\n");
}

void AnswerPrinter::content(std::string_view text) {
  if (text.empty()) return;
  leave_reasoning();
  put(text);
}

void AnswerPrinter::finish() {
  if (in_reasoning_) std::fwrite(kPlain.data(), 1, kPlain.size(), stdout);
  in_reasoning_ = false;
  if (wrote_ && last_ != '\n') put("\n");
  std::fflush(stdout);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); i++) {
    const auto c = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F are control characters too, written C2 80 to C2 9F.
    const bool c1 =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) i++;
    if (!c1 && (c >= 0x20 || c == '\n' || c == '\t') && c != 0x7F) out += text[i];
  }
  return out;
}

}  // namespace narwhal::cli
