// Input items of the Responses API to messages.
#pragma once

#include "serve/api/responses_tools.h"

namespace narwhal::serve {

// "instructions", then `previous`, then "input". One assistant turn is the longest run of
// reasoning, assistant messages and calls. kBadInput names the item.
Status read_response_input(Fields& in, std::vector<ChatMessage> previous, TurnRequest& request);

}  // namespace narwhal::serve
