import BatchLossFormulas
import BatchLossInstructions
import BatchLossKernelInterface

#if BATCHLOSS_X86_V3 || BATCHLOSS_X86_V4
  import _Builtin_intrinsics.intel
#endif

/// What kernels need of a vector beyond the arithmetic of formulas: memory and lanes.
///
/// Kernels are generic over it and specialised for `SIMD16<Float>` and `SIMD8<Double>`: 64 bytes, one
/// AVX-512 register, two of AVX2, four of SSE or NEON. The lane count is the same on every level, so sums
/// are added in the same order everywhere.
protocol KernelVector: LossVector {
  associatedtype Lane: KernelScalar
  static var laneCount: Int { get }

  init(lane: Lane)
  /// 0, 1, 2 … in the lanes.
  static var ramp: Self { get }
  subscript(lane: Int) -> Lane { get set }

  static func load(_ source: UnsafePointer<Lane>) -> Self
  /// The first `count` lanes from memory, `padding` in the others; reads nothing beyond.
  static func load(_ source: UnsafePointer<Lane>, count: Int, padding: Lane) -> Self
  /// Integers as numbers; exact up to 2²⁴.
  static func load(converting source: UnsafePointer<Int32>) -> Self
  func store(_ destination: UnsafeMutablePointer<Lane>)
  /// Stores the first `count` lanes and nothing beyond.
  func store(_ destination: UnsafeMutablePointer<Lane>, count: Int)
  /// A non-temporal store; the address must be a multiple of 64.
  func stream(_ destination: UnsafeMutablePointer<Lane>)

  /// eˣ for x ≤ 0, or little more, where it is a term of a sum near 1 or more: within 1.3·10⁻⁷ in `Float`. With fused
  /// multiply-add within 2.2 ulp down to −10 and 6 ulp down to the least normal number, without within 70; below
  /// that number anything from 0 to it. Fewer multiplications than ``LossVector/exp(nonPositive:)``.
  static func exp(ofSummand x: Self) -> Self
  /// From here on down, exponentials of summands are 0.
  static var lowestExponent: Lane { get }

  /// What `shift` of ``exp(_:shift:)`` is for N = 0.
  static var exponentShift: Lane { get }
  /// eˣ · 2⁻ᴺ, where `shift` is `exponentShift` − N; 0 where that is no normal number. |x| / ln 2 and |N| must be below
  /// 512 in `Float` and 8192 in `Double`, the result at most 2¹²⁶, and x at least ln 2 · (N − 127.4), in `Double`
  /// ln 2 · (N − 1023.4).
  static func exp(_ x: Self, shift: Self) -> Self

  /// √x and 1/√x of x ≥ 0. The inverse of 0 is 0, so that it takes no part in a product.
  static func roots(of x: Self) -> (root: Self, inverse: Self)

  /// How many lanes are true.
  static func count(_ mask: Mask) -> Int
  /// The lanes in float64, of more than eight the second half added to the first.
  var folded: SIMD8<Double> { get }
  /// The sum of the lanes in float64, by halves.
  var total: Double { get }
  /// The largest lane; lanes with NaN do not count.
  var largest: Lane { get }

  /// One step of a transposition: swaps the odd blocks of `distance` lanes of `a` with the even ones of `b`.
  static func exchange(_ a: inout Self, _ b: inout Self, distance: Int)

  /// The last two steps of a transposition, `distance` 2 and 1, for four vectors.
  static func exchangeQuads(_ a: inout Self, _ b: inout Self, _ c: inout Self, _ d: inout Self)

  /// Eight lanes from memory, in float64.
  static func loadDoubles(_ source: UnsafePointer<Lane>) -> SIMD8<Double>
  /// Stores eight numbers rounded to the format of the lanes.
  static func storeDoubles(_ numbers: SIMD8<Double>, _ destination: UnsafeMutablePointer<Lane>)
  /// The elements of a table of `count` at the indices; the table is readable to a multiple of 32 elements.
  static func lookUp(_ indices: UnsafePointer<Int32>, _ table: UnsafePointer<Lane>, _ count: Int) -> Self
}

extension KernelVector {
  @inline(__always)
  static func roots(of x: Self) -> (root: Self, inverse: Self) {
    let (root, zero) = (x.squareRoot(), Self(lane: 0))
    return (root, (Self(lane: 1) / root).replacing(with: zero, where: x .== zero))
  }

  @inline(__always)
  static func load(_ source: UnsafePointer<Lane>, count: Int) -> Self {
    load(source, count: count, padding: 0)
  }

  @inline(__always)
  static func load(_ source: UnsafePointer<Lane>, laneByLane count: Int, padding: Lane) -> Self {
    var result = Self(lane: padding)
    for lane in 0..<count { result[lane] = source[lane] }
    return result
  }

  @inline(__always)
  static func exchangeQuads(byPairs a: inout Self, _ b: inout Self, _ c: inout Self, _ d: inout Self) {
    exchange(&a, &c, distance: 2)
    exchange(&b, &d, distance: 2)
    exchange(&a, &b, distance: 1)
    exchange(&c, &d, distance: 1)
  }

  @inline(__always)
  static func lookUp(laneByLane indices: UnsafePointer<Int32>, _ table: UnsafePointer<Lane>) -> Self {
    var result = Self(lane: 0)
    for lane in 0..<laneCount { result[lane] = table[Int(indices[lane])] }
    return result
  }

  /// Lanes below `count`.
  @inline(__always)
  static func first(_ count: Int) -> Mask { ramp .< Self(lane: Lane(count)) }

  /// A store that bypasses the cache when `streams`.
  @inline(__always)
  func store(_ destination: UnsafeMutablePointer<Lane>, streams: Bool) {
    if streams { stream(destination) } else { store(destination) }
  }
}

/// `pointer + offset` where there is a pointer. (`Optional.map` leaves weak code behind in debug builds.)
@inline(__always)
func advance<Element>(_ pointer: UnsafePointer<Element>?, _ offset: Int) -> UnsafePointer<Element>? {
  if let pointer { pointer + offset } else { nil }
}

/// `pointer + offset` where there is a pointer.
@inline(__always)
func advance<Element>(_ pointer: UnsafeMutablePointer<Element>?, _ offset: Int) -> UnsafeMutablePointer<Element>? {
  if let pointer { pointer + offset } else { nil }
}

/// Asks for memory that a loop along `pointer` will read a little later. The processor looks ahead by itself, but not
/// beyond the end of a page of 4 KiB, which is one row of a thousand columns.
@inline(__always)
func prefetch<Element>(after pointer: UnsafePointer<Element>, distance: Int = 4096) {
  batchloss_prefetch(UnsafeRawPointer(pointer) + distance)
}

/// Asks, for each page that begins within the next `count` elements, for the one `distance` bytes after it.
///
/// Otherwise the first access to a page waits until its address is translated: a load with all that needs it, a store with
/// every store after it. ``prefetch(after:distance:)`` gives up on a page without translation, so this is ahead of that as
/// well.
@inline(__always)
func prefetchPages<Element>(after pointer: UnsafePointer<Element>, _ count: Int, distance: Int = 8192) {
  let address = UnsafeRawPointer(pointer)
  var place = -Int(bitPattern: address) & 4095
  while place < count * MemoryLayout<Element>.stride {
    batchloss_prefetch_nearest(address + (place + distance))
    place += 4096
  }
}

/// The same for a row that will be written, if there is one.
@inline(__always)
func prefetchPages<Element>(after pointer: UnsafeMutablePointer<Element>?, _ count: Int) {
  if let pointer { prefetchPages(after: UnsafePointer(pointer), count) }
}

/// Asks for every cache line of a row, into the first level where what is done with rows before takes most of the instructions
/// that the processor can look ahead.
@inline(__always)
func prefetchRow<V: KernelVector>(_ row: UnsafePointer<V.Lane>, _ columns: Int, nearest: Bool = false, as: V.Type) {
  @inline(__always)
  func ask(_ address: UnsafePointer<V.Lane>) {
    if nearest { batchloss_prefetch_nearest(address) } else { batchloss_prefetch(address) }
  }
  var column = 0
  while column < columns {
    ask(row + column)
    column += V.laneCount
  }
  ask(row + (columns - 1))
}

/// A whole vector, or the first lanes of one and `padding` in the others.
@inline(__always)
func loadLanes<V: KernelVector>(
  _ source: UnsafePointer<V.Lane>, _ lanes: Int, padding: V.Lane = 0, as: V.Type
) -> V {
  lanes == V.laneCount ? V.load(source) : V.load(source, count: lanes, padding: padding)
}

/// Stores a whole vector, or its first lanes.
@inline(__always)
func storeLanes<V: KernelVector>(_ vector: V, _ destination: UnsafeMutablePointer<V.Lane>, _ lanes: Int) {
  if lanes == V.laneCount { vector.store(destination) } else { vector.store(destination, count: lanes) }
}
