#include "calibrated.hpp"

#include "../../user_error.hpp"

#include <fstream>

namespace llama {

kvfreeze::TableShares<> calibrated_shares(CacheSettings const& settings) {
  if (settings.calibration.empty()) {
    throw UserError(
        "--preset: this preset needs calibration=FILE, made by: examples/run.sh calibrate --text "
        "TEXT --out FILE");
  }
  std::ifstream in(settings.calibration);
  if (!in) {
    throw UserError("cannot read the calibration '" + settings.calibration + "'");
  }
  try {
    return kvfreeze::TableShares<>::from(
        kvfreeze::EntropyCalibration::load(in, settings.shape).shares());
  } catch (kvfreeze::InvalidArgument const& error) {
    throw UserError("calibration '" + settings.calibration + "': " + error.what());
  }
}

}  // namespace llama
