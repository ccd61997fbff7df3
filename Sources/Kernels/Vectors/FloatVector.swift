import BatchLossFormulas

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel
#endif

extension SIMD16: LossVector where Scalar == Float {
  public typealias Mask = SIMDMask<SIMD16<Int32>>

  @inline(__always)
  public init(_ value: Double) { self.init(repeating: Float(value)) }

  @inline(__always)
  public static func multiplyAdd(_ left: Self, _ right: Self, _ addend: Self) -> Self {
    #if BATCHLOSS_FUSED
      addend.addingProduct(left, right)
    #else
      left * right + addend
    #endif
  }

  /// One blend instruction: the standard library's way is a branch a lane until late in the optimiser, which
  /// then stops inlining.
  @inline(__always)
  public func replacing(with other: Self, where mask: Mask) -> Self {
    #if BATCHLOSS_X86_V4
      let lanes = _mm512_movepi32_mask(unsafeBitCast(mask, to: SIMD8<Int64>.self))
      return _mm512_mask_blend_ps(lanes, self, other)
    #elseif BATCHLOSS_X86_V3
      let chosen = unsafeBitCast(mask, to: Self.self)
      return Self(
        lowHalf: _mm256_blendv_ps(lowHalf, other.lowHalf, chosen.lowHalf),
        highHalf: _mm256_blendv_ps(highHalf, other.highHalf, chosen.highHalf))
    #else
      typealias Bits = SIMD16<Int32>
      let chosen = unsafeBitCast(mask, to: Bits.self)
      let kept = unsafeBitCast(self, to: Bits.self) & (chosen ^ Bits(repeating: -1))
      return unsafeBitCast(kept | (unsafeBitCast(other, to: Bits.self) & chosen), to: Self.self)
    #endif
  }

  // One instruction each, which yields its second operand where either is NaN.

  @inline(__always)
  public static func minimum(_ left: Self, _ right: Self) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_min_ps(right, left)
    #elseif BATCHLOSS_X86_V3
      Self(
        lowHalf: _mm256_min_ps(right.lowHalf, left.lowHalf),
        highHalf: _mm256_min_ps(right.highHalf, left.highHalf))
    #else
      left.replacing(with: right, where: right .< left)
    #endif
  }

  @inline(__always)
  public static func maximum(_ left: Self, _ right: Self) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_max_ps(right, left)
    #elseif BATCHLOSS_X86_V3
      Self(
        lowHalf: _mm256_max_ps(right.lowHalf, left.lowHalf),
        highHalf: _mm256_max_ps(right.highHalf, left.highHalf))
    #else
      left.replacing(with: right, where: left .< right)
    #endif
  }

  /// The standard library's is a call for each lane.
  @inline(__always)
  public func squareRoot() -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_sqrt_ps(self)
    #elseif BATCHLOSS_X86_V3
      Self(lowHalf: _mm256_sqrt_ps(lowHalf), highHalf: _mm256_sqrt_ps(highHalf))
    #else
      var result = self
      for lane in 0..<16 { result[lane] = self[lane].squareRoot() }
      return result
    #endif
  }

  @inline(__always)
  public var magnitude: Self {
    unsafeBitCast(unsafeBitCast(self, to: SIMD16<UInt32>.self) & 0x7fff_ffff, to: Self.self)
  }
}

extension SIMD16: KernelVector where Scalar == Float {
  #if BATCHLOSS_X86_V4
    /// One step of Newton's from 14 bits, in place of a root and a division.
    @inline(__always)
    static func roots(of x: Self) -> (root: Self, inverse: Self) {
      let guess = _mm512_rsqrt14_ps(x)
      let near = x * guess
      let rest = multiplyAdd(Self(lane: -0.0) - near, guess, Self(lane: 1))
      let half = Self(lane: 0.5) * rest
      // 0·∞ of 0 and ∞, whose inverse is to be 0; NaN stays.
      let isOrdinary = near .== near
      return (
        x.replacing(with: multiplyAdd(near, half, near), where: isOrdinary),
        minimum(x, Self(lane: 0)).replacing(with: multiplyAdd(guess, half, guess), where: isOrdinary)
      )
    }
  #endif

  @inline(__always)
  static var laneCount: Int { 16 }

  @inline(__always)
  init(lane: Float) { self.init(repeating: lane) }

  @inline(__always)
  static var ramp: Self { Self(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) }

  @inline(__always)
  static func load(_ source: UnsafePointer<Float>) -> Self {
    UnsafeRawPointer(source).loadUnaligned(as: Self.self)
  }

  @inline(__always)
  func store(_ destination: UnsafeMutablePointer<Float>) {
    UnsafeMutableRawPointer(destination).storeBytes(of: self, as: Self.self)
  }

  @inline(__always)
  func stream(_ destination: UnsafeMutablePointer<Float>) {
    #if BATCHLOSS_X86_V4
      _mm512_stream_ps(destination, self)
    #elseif BATCHLOSS_X86_V3
      _mm256_stream_ps(destination, lowHalf)
      _mm256_stream_ps(destination + 8, highHalf)
    #else
      store(destination)
    #endif
  }

  @inline(__always)
  static func load(_ source: UnsafePointer<Float>, count: Int, padding: Float) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_mask_loadu_ps(Self(repeating: padding), lanes(below: count), source)
    #elseif BATCHLOSS_X86_V3
      let lanes = lanes(below: count)
      let low = _mm256_maskload_ps(source, unsafeBitCast(lanes.lowHalf, to: SIMD4<Int64>.self))
      let high = _mm256_maskload_ps(source + 8, unsafeBitCast(lanes.highHalf, to: SIMD4<Int64>.self))
      return Self(repeating: padding)
        .replacing(with: Self(lowHalf: low, highHalf: high), where: unsafeBitCast(lanes, to: Mask.self))
    #else
      load(source, laneByLane: count, padding: padding)
    #endif
  }

  @inline(__always)
  func store(_ destination: UnsafeMutablePointer<Float>, count: Int) {
    #if BATCHLOSS_X86_V4
      _mm512_mask_storeu_ps(destination, Self.lanes(below: count), self)
    #else
      // By powers of two: a masked store is slow on many processors, a store a lane slower.
      let raw = UnsafeMutableRawPointer(destination)
      if count == 16 { return raw.storeBytes(of: self, as: Self.self) }
      var (rest, end) = (lowHalf, 0)
      if count & 8 != 0 {
        raw.storeBytes(of: lowHalf, as: SIMD8<Float>.self)
        (rest, end) = (highHalf, 8)
      }
      var four = rest.lowHalf
      if count & 4 != 0 {
        (raw + end * 4).storeBytes(of: four, as: SIMD4<Float>.self)
        (four, end) = (rest.highHalf, end + 4)
      }
      var two = four.lowHalf
      if count & 2 != 0 {
        (raw + end * 4).storeBytes(of: two, as: SIMD2<Float>.self)
        (two, end) = (four.highHalf, end + 2)
      }
      if count & 1 != 0 { destination[end] = two.x }
    #endif
  }

  #if BATCHLOSS_X86_V4
    /// A bit for each lane below `count`.
    @inline(__always)
    private static func lanes(below count: Int) -> UInt16 { UInt16(truncatingIfNeeded: (1 &<< count) - 1) }
  #elseif BATCHLOSS_X86_V3
    /// All bits of each lane below `count`.
    @inline(__always)
    private static func lanes(below count: Int) -> SIMD16<Int32> {
      unsafeBitCast(first(count), to: SIMD16<Int32>.self)
    }
  #endif

  @inline(__always)
  static func load(converting source: UnsafePointer<Int32>) -> Self {
    converting(UnsafeRawPointer(source).loadUnaligned(as: SIMD16<Int32>.self))
  }

  /// Integers as numbers.
  @inline(__always)
  static func converting(_ x: SIMD16<Int32>) -> Self {
    Self(
      Float(x[0]), Float(x[1]), Float(x[2]), Float(x[3]), Float(x[4]), Float(x[5]), Float(x[6]), Float(x[7]),
      Float(x[8]), Float(x[9]), Float(x[10]), Float(x[11]),
      Float(x[12]), Float(x[13]), Float(x[14]), Float(x[15]))
  }

  @inline(__always)
  static func count(_ mask: Mask) -> Int {
    #if BATCHLOSS_X86_V4
      return _mm512_movepi32_mask(unsafeBitCast(mask, to: SIMD8<Int64>.self)).nonzeroBitCount
    #elseif BATCHLOSS_X86_V3
      let lanes = unsafeBitCast(mask, to: Self.self)
      return _mm256_movemask_ps(lanes.lowHalf).nonzeroBitCount + _mm256_movemask_ps(lanes.highHalf).nonzeroBitCount
    #else
      return Int(Self(repeating: 0).replacing(with: Self(repeating: 1), where: mask).total)
    #endif
  }

  @inline(__always)
  var folded: SIMD8<Double> { Self.widened(lowHalf) + Self.widened(highHalf) }

  @inline(__always)
  var total: Double { folded.total }

  @inline(__always)
  private static func widened(_ x: SIMD8<Float>) -> SIMD8<Double> {
    #if BATCHLOSS_X86_V4
      return _mm512_cvtps_pd(x)
    #else
      // Lane by lane, since the generic conversion of the standard library is not inlined.
      return SIMD8(
        Double(x[0]), Double(x[1]), Double(x[2]), Double(x[3]),
        Double(x[4]), Double(x[5]), Double(x[6]), Double(x[7]))
    #endif
  }

  @inline(__always)
  var largest: Float {
    #if BATCHLOSS_X86_V4
      return _mm512_reduce_max_ps(self)
    #else
      let eight = lowHalf.replacing(with: highHalf, where: lowHalf .< highHalf)
      let four = eight.lowHalf.replacing(with: eight.highHalf, where: eight.lowHalf .< eight.highHalf)
      let two = four.lowHalf.replacing(with: four.highHalf, where: four.lowHalf .< four.highHalf)
      return two.x < two.y ? two.y : two.x
    #endif
  }

  @inline(__always)
  static func exchange(_ a: inout Self, _ b: inout Self, distance: Int) {
    let (x, y) = (a, b)
    switch distance {
    case 8:
      a = Self(lowHalf: x.lowHalf, highHalf: y.lowHalf)
      b = Self(lowHalf: x.highHalf, highHalf: y.highHalf)
    case 4:
      a = Self(
        x[0], x[1], x[2], x[3], y[0], y[1], y[2], y[3], x[8], x[9], x[10], x[11], y[8], y[9], y[10], y[11])
      b = Self(
        x[4], x[5], x[6], x[7], y[4], y[5], y[6], y[7],
        x[12], x[13], x[14], x[15], y[12], y[13], y[14], y[15])
    case 2:
      a = Self(
        x[0], x[1], y[0], y[1], x[4], x[5], y[4], y[5], x[8], x[9], y[8], y[9], x[12], x[13], y[12], y[13])
      b = Self(
        x[2], x[3], y[2], y[3], x[6], x[7], y[6], y[7],
        x[10], x[11], y[10], y[11], x[14], x[15], y[14], y[15])
    default:
      a.oddHalf = y.evenHalf
      b.evenHalf = x.oddHalf
    }
  }

  @inline(__always)
  static func exchangeQuads(_ a: inout Self, _ b: inout Self, _ c: inout Self, _ d: inout Self) {
    // Eight shuffles, where LLVM puts the pairs together lane by lane.
    #if BATCHLOSS_X86_V4
      func pairs(_ x: Self) -> SIMD8<Double> { unsafeBitCast(x, to: SIMD8<Double>.self) }
      func singles(_ x: SIMD8<Double>) -> Self { unsafeBitCast(x, to: Self.self) }
      let (ab, cd) = (pairs(_mm512_unpacklo_ps(a, b)), pairs(_mm512_unpacklo_ps(c, d)))
      let (ab2, cd2) = (pairs(_mm512_unpackhi_ps(a, b)), pairs(_mm512_unpackhi_ps(c, d)))
      a = singles(_mm512_unpacklo_pd(ab, cd))
      b = singles(_mm512_unpackhi_pd(ab, cd))
      c = singles(_mm512_unpacklo_pd(ab2, cd2))
      d = singles(_mm512_unpackhi_pd(ab2, cd2))
    #elseif BATCHLOSS_X86_V3
      let low = quads(a.lowHalf, b.lowHalf, c.lowHalf, d.lowHalf)
      let high = quads(a.highHalf, b.highHalf, c.highHalf, d.highHalf)
      a = Self(lowHalf: low.0, highHalf: high.0)
      b = Self(lowHalf: low.1, highHalf: high.1)
      c = Self(lowHalf: low.2, highHalf: high.2)
      d = Self(lowHalf: low.3, highHalf: high.3)
    #else
      exchangeQuads(byPairs: &a, &b, &c, &d)
    #endif
  }

  #if BATCHLOSS_X86_V3
    @inline(__always)
    private static func quads(
      _ a: SIMD8<Float>, _ b: SIMD8<Float>, _ c: SIMD8<Float>, _ d: SIMD8<Float>
    ) -> (SIMD8<Float>, SIMD8<Float>, SIMD8<Float>, SIMD8<Float>) {
      func pairs(_ x: SIMD8<Float>) -> SIMD4<Double> { unsafeBitCast(x, to: SIMD4<Double>.self) }
      func singles(_ x: SIMD4<Double>) -> SIMD8<Float> { unsafeBitCast(x, to: SIMD8<Float>.self) }
      let (ab, cd) = (pairs(_mm256_unpacklo_ps(a, b)), pairs(_mm256_unpacklo_ps(c, d)))
      let (ab2, cd2) = (pairs(_mm256_unpackhi_ps(a, b)), pairs(_mm256_unpackhi_ps(c, d)))
      return (
        singles(_mm256_unpacklo_pd(ab, cd)), singles(_mm256_unpackhi_pd(ab, cd)),
        singles(_mm256_unpacklo_pd(ab2, cd2)), singles(_mm256_unpackhi_pd(ab2, cd2))
      )
    }
  #endif

  @inline(__always)
  static func loadDoubles(_ source: UnsafePointer<Float>) -> SIMD8<Double> {
    widened(UnsafeRawPointer(source).loadUnaligned(as: SIMD8<Float>.self))
  }

  @inline(__always)
  static func storeDoubles(_ numbers: SIMD8<Double>, _ destination: UnsafeMutablePointer<Float>) {
    #if BATCHLOSS_X86_V4
      let narrow = _mm512_cvtpd_ps(numbers)
    #else
      let narrow = SIMD8<Float>(
        Float(numbers[0]), Float(numbers[1]), Float(numbers[2]), Float(numbers[3]),
        Float(numbers[4]), Float(numbers[5]), Float(numbers[6]), Float(numbers[7]))
    #endif
    UnsafeMutableRawPointer(destination).storeBytes(of: narrow, as: SIMD8<Float>.self)
  }
  @inline(__always)
  static func lookUp(
    _ indices: UnsafePointer<Int32>, _ table: UnsafePointer<Float>, _ count: Int
  ) -> Self {
    #if BATCHLOSS_X86_V4
      let index = UnsafeRawPointer(indices).loadUnaligned(as: SIMD16<Int32>.self)
      let lookUp = unsafeBitCast(index, to: SIMD8<Int64>.self)
      var result = _mm512_permutex2var_ps(load(table), lookUp, load(table + 16))
      var start = 32
      while start < count {
        let next = _mm512_permutex2var_ps(load(table + start), lookUp, load(table + start + 16))
        result = result.replacing(with: next, where: index .>= SIMD16<Int32>(repeating: Int32(start)))
        start += 32
      }
      return result
    #else
      return lookUp(laneByLane: indices, table)
    #endif
  }
}
