import BatchLossFormulas

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel
#endif

extension SIMD8: LossVector where Scalar == Double {
  public typealias Mask = SIMDMask<SIMD8<Int64>>

  @inline(__always)
  public init(_ value: Double) { self.init(repeating: Double(value)) }

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
      let lanes = _mm512_movepi64_mask(unsafeBitCast(mask, to: SIMD8<Int64>.self))
      return _mm512_mask_blend_pd(lanes, self, other)
    #elseif BATCHLOSS_X86_V3
      let chosen = unsafeBitCast(mask, to: Self.self)
      return Self(
        lowHalf: _mm256_blendv_pd(lowHalf, other.lowHalf, chosen.lowHalf),
        highHalf: _mm256_blendv_pd(highHalf, other.highHalf, chosen.highHalf))
    #else
      typealias Bits = SIMD8<Int64>
      let chosen = unsafeBitCast(mask, to: Bits.self)
      let kept = unsafeBitCast(self, to: Bits.self) & (chosen ^ Bits(repeating: -1))
      return unsafeBitCast(kept | (unsafeBitCast(other, to: Bits.self) & chosen), to: Self.self)
    #endif
  }

  // One instruction each, which yields its second operand where either is NaN.

  @inline(__always)
  public static func minimum(_ left: Self, _ right: Self) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_min_pd(right, left)
    #elseif BATCHLOSS_X86_V3
      Self(
        lowHalf: _mm256_min_pd(right.lowHalf, left.lowHalf),
        highHalf: _mm256_min_pd(right.highHalf, left.highHalf))
    #else
      left.replacing(with: right, where: right .< left)
    #endif
  }

  @inline(__always)
  public static func maximum(_ left: Self, _ right: Self) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_max_pd(right, left)
    #elseif BATCHLOSS_X86_V3
      Self(
        lowHalf: _mm256_max_pd(right.lowHalf, left.lowHalf),
        highHalf: _mm256_max_pd(right.highHalf, left.highHalf))
    #else
      left.replacing(with: right, where: left .< right)
    #endif
  }

  /// The standard library's is a call for each lane.
  @inline(__always)
  public func squareRoot() -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_sqrt_pd(self)
    #elseif BATCHLOSS_X86_V3
      Self(lowHalf: _mm256_sqrt_pd(lowHalf), highHalf: _mm256_sqrt_pd(highHalf))
    #else
      var result = self
      for lane in 0..<8 { result[lane] = self[lane].squareRoot() }
      return result
    #endif
  }

  @inline(__always)
  public var magnitude: Self {
    unsafeBitCast(unsafeBitCast(self, to: SIMD8<UInt64>.self) & 0x7fff_ffff_ffff_ffff, to: Self.self)
  }
}

extension SIMD8: KernelVector where Scalar == Double {
  @inline(__always)
  static var laneCount: Int { 8 }

  @inline(__always)
  init(lane: Double) { self.init(repeating: lane) }

  @inline(__always)
  static var ramp: Self { Self(0, 1, 2, 3, 4, 5, 6, 7) }

  @inline(__always)
  static func load(_ source: UnsafePointer<Double>) -> Self {
    UnsafeRawPointer(source).loadUnaligned(as: Self.self)
  }

  @inline(__always)
  func store(_ destination: UnsafeMutablePointer<Double>) {
    UnsafeMutableRawPointer(destination).storeBytes(of: self, as: Self.self)
  }

  @inline(__always)
  func stream(_ destination: UnsafeMutablePointer<Double>) {
    #if BATCHLOSS_X86_V4
      _mm512_stream_pd(destination, self)
    #elseif BATCHLOSS_X86_V3
      _mm256_stream_pd(destination, lowHalf)
      _mm256_stream_pd(destination + 4, highHalf)
    #else
      store(destination)
    #endif
  }

  @inline(__always)
  static func load(_ source: UnsafePointer<Double>, count: Int, padding: Double) -> Self {
    #if BATCHLOSS_X86_V4
      _mm512_mask_loadu_pd(Self(repeating: padding), lanes(below: count), source)
    #elseif BATCHLOSS_X86_V3
      let lanes = lanes(below: count)
      let low = _mm256_maskload_pd(source, lanes.lowHalf)
      let high = _mm256_maskload_pd(source + 4, lanes.highHalf)
      return Self(repeating: padding)
        .replacing(with: Self(lowHalf: low, highHalf: high), where: unsafeBitCast(lanes, to: Mask.self))
    #else
      load(source, laneByLane: count, padding: padding)
    #endif
  }

  @inline(__always)
  func store(_ destination: UnsafeMutablePointer<Double>, count: Int) {
    #if BATCHLOSS_X86_V4
      _mm512_mask_storeu_pd(destination, Self.lanes(below: count), self)
    #else
      // By powers of two: a masked store is slow on many processors, a store a lane slower.
      let raw = UnsafeMutableRawPointer(destination)
      if count == 8 { return raw.storeBytes(of: self, as: Self.self) }
      var (rest, end) = (lowHalf, 0)
      if count & 4 != 0 {
        raw.storeBytes(of: lowHalf, as: SIMD4<Double>.self)
        (rest, end) = (highHalf, 4)
      }
      var two = rest.lowHalf
      if count & 2 != 0 {
        (raw + end * 8).storeBytes(of: two, as: SIMD2<Double>.self)
        (two, end) = (rest.highHalf, end + 2)
      }
      if count & 1 != 0 { destination[end] = two.x }
    #endif
  }

  #if BATCHLOSS_X86_V4
    /// A bit for each lane below `count`.
    @inline(__always)
    private static func lanes(below count: Int) -> UInt8 { UInt8(truncatingIfNeeded: (1 &<< count) - 1) }
  #elseif BATCHLOSS_X86_V3
    /// All bits of each lane below `count`.
    @inline(__always)
    private static func lanes(below count: Int) -> SIMD8<Int64> {
      unsafeBitCast(first(count), to: SIMD8<Int64>.self)
    }
  #endif

  @inline(__always)
  static func load(converting source: UnsafePointer<Int32>) -> Self {
    let x = UnsafeRawPointer(source).loadUnaligned(as: SIMD8<Int32>.self)
    return Self(
      Double(x[0]), Double(x[1]), Double(x[2]), Double(x[3]),
      Double(x[4]), Double(x[5]), Double(x[6]), Double(x[7]))
  }

  @inline(__always)
  static func count(_ mask: Mask) -> Int {
    #if BATCHLOSS_X86_V4
      return _mm512_movepi64_mask(unsafeBitCast(mask, to: SIMD8<Int64>.self)).nonzeroBitCount
    #elseif BATCHLOSS_X86_V3
      let lanes = unsafeBitCast(mask, to: Self.self)
      return _mm256_movemask_pd(lanes.lowHalf).nonzeroBitCount + _mm256_movemask_pd(lanes.highHalf).nonzeroBitCount
    #else
      return Int(Self(repeating: 0).replacing(with: Self(repeating: 1), where: mask).total)
    #endif
  }

  @inline(__always)
  var folded: SIMD8<Double> { self }

  @inline(__always)
  var total: Double {
    #if BATCHLOSS_X86_V4
      return _mm512_reduce_add_pd(self)
    #else
      let four = lowHalf + highHalf
      let two = four.lowHalf + four.highHalf
      return two.x + two.y
    #endif
  }

  @inline(__always)
  var largest: Double {
    #if BATCHLOSS_X86_V4
      return _mm512_reduce_max_pd(self)
    #else
      let four = lowHalf.replacing(with: highHalf, where: lowHalf .< highHalf)
      let two = four.lowHalf.replacing(with: four.highHalf, where: four.lowHalf .< four.highHalf)
      return two.x < two.y ? two.y : two.x
    #endif
  }

  @inline(__always)
  static func exchange(_ a: inout Self, _ b: inout Self, distance: Int) {
    let (x, y) = (a, b)
    switch distance {
    case 4:
      a = Self(lowHalf: x.lowHalf, highHalf: y.lowHalf)
      b = Self(lowHalf: x.highHalf, highHalf: y.highHalf)
    case 2:
      a = Self(x[0], x[1], y[0], y[1], x[4], x[5], y[4], y[5])
      b = Self(x[2], x[3], y[2], y[3], x[6], x[7], y[6], y[7])
    default:
      a.oddHalf = y.evenHalf
      b.evenHalf = x.oddHalf
    }
  }

  @inline(__always)
  static func exchangeQuads(_ a: inout Self, _ b: inout Self, _ c: inout Self, _ d: inout Self) {
    exchangeQuads(byPairs: &a, &b, &c, &d)
  }

  @inline(__always)
  static func loadDoubles(_ source: UnsafePointer<Double>) -> SIMD8<Double> { load(source) }

  @inline(__always)
  static func storeDoubles(_ numbers: SIMD8<Double>, _ destination: UnsafeMutablePointer<Double>) {
    numbers.store(destination)
  }
  @inline(__always)
  static func lookUp(
    _ indices: UnsafePointer<Int32>, _ table: UnsafePointer<Double>, _ count: Int
  ) -> Self {
    lookUp(laneByLane: indices, table)
  }
}
