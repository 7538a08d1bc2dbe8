#pragma once

#include <stdexcept>

namespace llama {

/// Something the user can put right. `main` prints the message as one line and exits with 2.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace llama
