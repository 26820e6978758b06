#include <Foundation/Foundation.h>
#include <objc/runtime.h>

#include <string>
#include <vector>

#include "base/check.h"
#include "fake_metal.h"
#include "fake_objects.h"

using narwhal::fake_metal::counts;

namespace {

struct Pool {
  std::vector<std::vector<id>> open;
};
thread_local Pool pools;

}  // namespace

@implementation NSObject
+ (id)alloc {
  __atomic_add_fetch(&counts().n_objects, 1, __ATOMIC_RELAXED);
  return class_createInstance(self, 0);
}
+ (id)new {
  return [[self alloc] init];
}
- (id)init {
  return self;
}
- (id)retain {
  __atomic_add_fetch(&count_, 1, __ATOMIC_RELAXED);
  return self;
}
- (oneway void)release {
  if (__atomic_fetch_sub(&count_, 1, __ATOMIC_ACQ_REL) == 0) [self dealloc];
}
- (id)autorelease {
  NW_CHECK(!pools.open.empty(), "{} autoreleased outside a pool", object_getClassName(self));
  pools.open.back().push_back(self);
  return self;
}
- (void)dealloc {
  __atomic_sub_fetch(&counts().n_objects, 1, __ATOMIC_RELAXED);
  object_dispose(self);
}
@end

@implementation NSAutoreleasePool
- (id)init {
  pools.open.emplace_back();
  return self;
}
- (void)drain {
  const std::vector<id> objects = std::move(pools.open.back());
  pools.open.pop_back();
  for (id object : objects) [object release];
  [self release];
}
@end

@implementation NSString
- (instancetype)initWithBytes:(const void*)bytes
                       length:(NSUInteger)length
                     encoding:(NSStringEncoding)encoding {
  NW_CHECK(encoding == NSUTF8StringEncoding, "encoding {}", encoding);
  text_ = new std::string(static_cast<const char*>(bytes), length);
  return self;
}
- (const char*)UTF8String {
  return static_cast<std::string*>(text_)->c_str();
}
- (void)dealloc {
  delete static_cast<std::string*>(text_);
  [super dealloc];
}
@end

@implementation NSError
- (id)initWithText:(const std::string&)text {
  text_ = [[NSString alloc] initWithBytes:text.data()
                                   length:text.size()
                                 encoding:NSUTF8StringEncoding];
  return self;
}
- (NSString*)localizedDescription {
  return [[text_ retain] autorelease];
}
- (void)dealloc {
  [text_ release];
  [super dealloc];
}
@end

@implementation NSProcessInfo
+ (NSProcessInfo*)processInfo {
  return [[self new] autorelease];
}
- (NSOperatingSystemVersion)operatingSystemVersion {
  return {narwhal::fake_metal::settings().macos, 3, 0};
}
@end
