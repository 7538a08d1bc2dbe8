#include "calibrated.hpp"

#include <kvfreeze/scheduler/entropy_calibration.hpp>
#include <kvfreeze/scheduler/lane_table.hpp>

#include "../../user_error.hpp"

#include <fstream>
#include <vector>

namespace llama {

namespace {

/// What read(in, shape) makes of the calibration file.
template <class Read>
auto read_calibration(CacheSettings const& settings, Read&& read) {
  std::ifstream in(settings.calibration);
  if (!in) {
    throw UserError("cannot read the calibration '" + settings.calibration + "'");
  }
  try {
    return read(in, settings.shape);
  } catch (kvfreeze::InvalidArgument const& error) {
    throw UserError("calibration '" + settings.calibration + "': " + error.what());
  }
}

/// As a table of shares.
template <class Read>
kvfreeze::TableShares<> read_shares(CacheSettings const& settings, Read&& read) {
  return read_calibration(settings, [&](std::istream& in, kvfreeze::Shape const& shape) {
    return kvfreeze::TableShares<>::from(read(in, shape));
  });
}

void require_calibration(CacheSettings const& settings) {
  if (settings.calibration.empty()) {
    throw UserError(
        "--preset: this preset needs calibration=FILE, made by: examples/run.sh --published "
        "calibrate --text TEXT --out FILE");
  }
}

}  // namespace

kvfreeze::TableShares<> entropy_shares(CacheSettings const& settings) {
  require_calibration(settings);
  return read_shares(settings, [](std::istream& in, kvfreeze::Shape const& shape) {
    return kvfreeze::EntropyCalibration::load(in, shape).shares();
  });
}

MeasuredEntropies relative_entropies(CacheSettings const& settings) {
  require_calibration(settings);
  MeasuredEntropies result;
  result.relative = read_shares(settings, [&](std::istream& in, kvfreeze::Shape const& shape) {
    auto const measured = kvfreeze::EntropyCalibration::load(in, shape);
    for (float const bits : measured.bits) {
      result.mean += bits / static_cast<float>(measured.bits.size());
    }
    return measured.shares(0.0F, 15.0F);
  });
  return result;
}

std::vector<float> oq_shares(CacheSettings const& settings) {
  if (settings.calibration.empty() || settings.calibration == measured_on_prompt) {
    return {};
  }
  return read_calibration(settings, [](std::istream& in, kvfreeze::Shape const& shape) {
    return kvfreeze::LaneTable::load(in, "shares", shape, 15.0F).values;
  });
}

}  // namespace llama
