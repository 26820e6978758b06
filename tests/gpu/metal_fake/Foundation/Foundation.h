// The few of Foundation's classes that the Metal backend uses, declared after Apple's documentation
// for clang with GNU's Objective-C runtime. Defined in fake_foundation.mm; for tests only.
#pragma once

#include <objc/objc.h>

using NSUInteger = unsigned long;
using NSInteger = long;

@protocol NSObject
- (id)retain;
- (oneway void)release;
- (id)autorelease;
@end

__attribute__((objc_root_class))
@interface NSObject<NSObject> {
  Class isa;
  int count_;  // of owners, less one
}
+ (id)alloc;
+ (id)new;
- (id)init;
- (void)dealloc;
@end

@interface NSAutoreleasePool : NSObject
- (void)drain;
@end

using NSStringEncoding = NSUInteger;
enum : NSStringEncoding { NSUTF8StringEncoding = 4 };

@interface NSString : NSObject {
  void* text_;
}
- (instancetype)initWithBytes:(const void*)bytes
                       length:(NSUInteger)length
                     encoding:(NSStringEncoding)encoding;
@property(readonly) const char* UTF8String;
@end

@interface NSError : NSObject {
  NSString* text_;
}
@property(readonly, copy) NSString* localizedDescription;
@end

struct NSOperatingSystemVersion {
  NSInteger majorVersion, minorVersion, patchVersion;
};

@interface NSProcessInfo : NSObject
@property(class, readonly, strong) NSProcessInfo* processInfo;
@property(readonly) NSOperatingSystemVersion operatingSystemVersion;
@end
