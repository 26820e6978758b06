// What the parts of the fake have in common.
#pragma once

#include <Metal/Metal.h>

#include <string>

@interface NSError (Fake)
- (id)initWithText:(const std::string&)text;
@end
