// Ref: one owner's count of an Objective-C object (these files are compiled without ARC).
#pragma once

#import <Foundation/Foundation.h>

#include <string>
#include <string_view>
#include <utility>

namespace narwhal::metal {

template <class T>
class Ref {
 public:
  Ref() = default;
  // Takes over the count that new... and alloc give.
  explicit Ref(T object) : object_(object) {}
  // Of an object that somebody else owns, an autorelease pool for example.
  static Ref shared(T object) { return Ref([object retain]); }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nil)) {}
  Ref& operator=(Ref&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() { [object_ release]; }

  T get() const { return object_; }
  explicit operator bool() const { return object_ != nil; }

 private:
  T object_ = nil;
};

inline Ref<NSString*> to_ns(std::string_view text) {
  return Ref<NSString*>([[NSString alloc] initWithBytes:text.data()
                                                 length:text.size()
                                               encoding:NSUTF8StringEncoding]);
}

inline std::string text_of(NSString* s) { return s ? [s UTF8String] : ""; }
inline std::string text_of(NSError* e) {
  return e ? text_of([e localizedDescription]) : "no reason given";
}

}  // namespace narwhal::metal
