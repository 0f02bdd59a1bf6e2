// How much arithmetic each operation of a network is.
#pragma once

#include <map>
#include <string>

#include "model/network.h"

namespace elan {

// Multiply-adds per padded input pixel by the operation's canonical name; 0 for the residual
// stream. What a pair that uses attention again would compute again does not count.
std::map<std::string, double> operation_work(const Network& network);

}  // namespace elan
