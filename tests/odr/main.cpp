#include <cstdint>

std::uint64_t first();
std::uint64_t second();

int main() { return first() == 1 && second() == 1 ? 0 : 1; }
