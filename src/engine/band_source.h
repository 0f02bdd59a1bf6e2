// Rows of an enlarged picture out of bands of it that are computed one after another.
#pragma once

#include <cstddef>
#include <vector>

#include "elan/engine.h"

namespace elan {

// Holds one band; what a band is and how it is computed is the derived class's. Not for concurrent
// use.
class BandedRows : public RowSource {
 public:
  // Throws Error (internal) for rows outside the picture or behind the band held, and whatever
  // compute_band() throws; the band is then asked for again by the next call.
  void read(int y, const ImageView& out) final;

 protected:
  BandedRows(const ConstImageView& in, int scale, SampleType type)
      : in_(in), scale_(scale), type_(type) {}

  // Computes the band that begins at input row `begin` into hold(its input rows); returns the input
  // row after its last.
  virtual int compute_band(int begin) = 0;

  // The enlarged band's memory for this many input rows; its content is unspecified.
  ImageView hold(int rows);

  [[nodiscard]] const ConstImageView& in() const { return in_; }
  [[nodiscard]] int scale() const { return scale_; }
  [[nodiscard]] SampleType type() const { return type_; }

 private:
  [[nodiscard]] std::size_t row_bytes() const;

  ConstImageView in_;
  int scale_;
  SampleType type_;
  int begin_ = 0, end_ = 0;  // input rows of the band held
  std::vector<std::byte> band_;
};

}  // namespace elan
