#pragma once

/// @file
/// @brief Everything for the host.

#include <kvfreeze/digest/box.hpp>
#include <kvfreeze/digest/cuboid.hpp>
#include <kvfreeze/digest/key_codes.hpp>
#include <kvfreeze/digest/mean_key.hpp>
#include <kvfreeze/digest/none.hpp>
#include <kvfreeze/error.hpp>
#include <kvfreeze/host/compact.hpp>
#include <kvfreeze/host/digest_scan.hpp>
#include <kvfreeze/host/entropy.hpp>
#include <kvfreeze/host/merge.hpp>
#include <kvfreeze/host/top_k.hpp>
#include <kvfreeze/host/top_p.hpp>
#include <kvfreeze/kv_freeze_cache.hpp>
#include <kvfreeze/presets.hpp>
#include <kvfreeze/report.hpp>
#include <kvfreeze/scheduler/fixed_budget_scheduler.hpp>
#include <kvfreeze/scheduler/mass_ladder_scheduler.hpp>
#include <kvfreeze/scorer/cumulative_mass_scorer.hpp>
#include <kvfreeze/scorer/ema_mass_scorer.hpp>
#include <kvfreeze/scorer/key_norm_scorer.hpp>
#include <kvfreeze/scorer/window_mass_scorer.hpp>
#include <kvfreeze/tier/checksummed.hpp>
#include <kvfreeze/tier/fault_injecting.hpp>
#include <kvfreeze/tier/statistics.hpp>
#include <kvfreeze/trigger/any_of.hpp>
#include <kvfreeze/trigger/query_drift_trigger.hpp>
#include <kvfreeze/version.hpp>
