// How far the values of one run are from those of another: absolute and relative errors, pixels
// that look different, and where in the picture they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "elan/image.h"

namespace elan {

// A relative error is |value - reference| / (|reference| + kRelativeFloor).
inline constexpr double kRelativeFloor = 1e-5;

// Maximum and mean are exact; a median is that of a histogram, within 0.2 % (errors below 1e-12
// count as 0). Infinite where a value is no finite number.
struct ErrorSummary {
  std::size_t count = 0;
  double max_abs = 0, median_abs = 0, mean_abs = 0;
  double max_rel = 0, median_rel = 0, mean_rel = 0;
};

class ErrorStatistics {
 public:
  void add(double value, double reference);
  void add(const ErrorStatistics& other);
  [[nodiscard]] ErrorSummary summary() const;

 private:
  // Counts of positive numbers, 256 bins from a power of two to the next.
  class Histogram {
   public:
    void add(double value);
    void add(const Histogram& other);
    [[nodiscard]] double median(std::size_t count) const;

   private:
    std::vector<std::uint64_t> bins_;  // empty as long as there is nothing
  };

  std::size_t count_ = 0;
  double max_abs_ = 0, sum_abs_ = 0, max_rel_ = 0, sum_rel_ = 0;
  Histogram abs_, rel_;
};

// Mean absolute error of cells of a picture, row by row.
struct ErrorMap {
  int cell = 0;  // pixels a side; cells at the right and lower edge may be smaller
  int columns = 0, rows = 0;
  std::vector<double> mean;
};

struct PictureErrors {
  ErrorStatistics values;
  std::size_t pixels = 0;
  std::size_t pixels_off = 0;  // by more than one of 256 levels in a sample, once rounded
  ErrorMap map;

  void add(const PictureErrors& other);  // all but the map
  [[nodiscard]] double share_off() const {
    return pixels == 0 ? 0 : static_cast<double>(pixels_off) / static_cast<double>(pixels);
  }
};

// Both f32, 0..255, of one size. `cells`: of the map, along the longer side; 0: no map. Throws
// Error (input) when sizes or types differ.
PictureErrors compare_pictures(const ConstImageView& picture, const ConstImageView& reference,
                               int cells = 0);

}  // namespace elan
