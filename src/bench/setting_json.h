// The circumstances of a measurement as JSON; both reports begin with it.
#pragma once

#include "base/json.h"
#include "bench/report.h"

namespace narwhal::bench {

Json setting_json(const Setting& setting);

}  // namespace narwhal::bench
