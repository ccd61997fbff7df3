extension Float {
  /// Widens bfloat16 exactly: it is the upper half of a `Float`.
  @inline(__always)
  init(bfloat16Bits bits: UInt16) { self.init(bitPattern: UInt32(bits) << 16) }

  /// Widens IEEE 754 binary16 exactly; a NaN keeps its payload.
  ///
  /// With sign s, exponent field e and fraction f, the value is (-1)^s times
  ///
  ///     f · 2^-24                          for e = 0, zeros and subnormal numbers,
  ///     (1 + f · 2^-10) · 2^(e - 15)       for 0 < e < 31,
  ///     infinity or NaN                    for e = 31.
  ///
  /// All three are computed and one is selected, in integers but for one exact product. Unlike
  /// `Float(Float16(bitPattern:))`, which calls a function per element on x86-64 without F16C, this becomes
  /// vector instructions on every processor (signed, because SSE2 compares no unsigned integers), and it
  /// does not depend on how the processor is set to treat subnormal numbers.
  @inline(__always)
  init(float16Bits bits: UInt16) {
    let sign = UInt32(bits & 0x8000) << 16
    let magnitude = Int32(bits & 0x7FFF)
    // The exponent field is rebiased from 15 to 127, and from 31 to 255.
    let rebias: Int32 = (127 - 15) << 23
    let normal = magnitude << 13 &+ rebias &+ (magnitude >= 0x7C00 ? rebias : 0)
    let subnormal = Int32(bitPattern: (Float(magnitude) * 0x1p-24).bitPattern)
    self.init(bitPattern: sign | UInt32(bitPattern: magnitude < 0x0400 ? subnormal : normal))
  }
}
