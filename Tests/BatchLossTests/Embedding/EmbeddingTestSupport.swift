import BatchLoss
import Testing

// What the tests of losses on embeddings share: data, plain-loop references in Double and finite differences.

/// Random numbers that are the same in every run (SplitMix64).
struct Samples {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func bits() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// A number in −1..<1, exact in `Float`.
  mutating func number() -> Double { Double(bits() >> 40) / Double(1 << 23) - 1 }

  mutating func numbers(_ count: Int) -> [Double] { (0..<count).map { _ in number() } }

  mutating func label(below limit: Int) -> Int { Int(bits() % UInt64(limit)) }

  mutating func labels(_ count: Int, below limit: Int) -> [Int] { (0..<count).map { _ in label(below: limit) } }
}

/// A distance by its definition.
func referenceDistance(_ x: ArraySlice<Double>, _ y: ArraySlice<Double>, _ kind: EmbeddingDistance) -> Double {
  var (square, product, xx, yy) = (0.0, 0.0, 0.0, 0.0)
  for (a, b) in zip(x, y) {
    square += (a - b) * (a - b)
    product += a * b
    xx += a * a
    yy += b * b
  }
  switch kind {
  case .squaredEuclidean: return square
  case .euclidean: return square.squareRoot()
  case .cosine:
    guard xx > 0, yy > 0 else { return 1 }
    let (a, b) = (xx.squareRoot(), yy.squareRoot())
    return zip(x, y).reduce(0.0) { $0 + ($1.0 / a - $1.1 / b) * ($1.0 / a - $1.1 / b) } / 2
  }
}

/// All distances of a batch.
func referenceDistances(_ x: [Double], _ columns: Int, _ kind: EmbeddingDistance) -> [[Double]] {
  let rows = columns == 0 ? 0 : x.count / columns
  return (0..<rows).map { i in
    (0..<rows).map { j in
      referenceDistance(
        x[i * columns..<(i + 1) * columns], x[j * columns..<(j + 1) * columns], kind)
    }
  }
}

/// The gradient of a function by central differences.
func finiteDifferences(_ x: [Double], step: Double = 1e-5, _ function: ([Double]) -> Double) -> [Double] {
  var x = x
  return x.indices.map { index in
    let old = x[index]
    x[index] = old + step
    let above = function(x)
    x[index] = old - step
    let below = function(x)
    x[index] = old
    return (above - below) / (2 * step)
  }
}

/// Largest difference, over the largest expected magnitude or 1e-3.
func largestError<Scalar: LossScalar>(_ actual: [Scalar], _ expected: [Double]) -> Double {
  guard actual.count == expected.count else { return .infinity }
  let scale = max(expected.reduce(0) { max($0, $1.magnitude) }, 1e-3)
  return zip(actual, expected).reduce(0) { worst, pair in
    let error = (Double(pair.0) - pair.1).magnitude / scale
    return error.isNaN ? .infinity : max(worst, error)
  }
}

func relativeError(_ actual: Double, _ expected: Double) -> Double {
  (actual - expected).magnitude / max(expected.magnitude, 1e-6)
}

func engine(workers: Int, budget: Int = 256 << 20) throws -> Engine {
  Engine(configuration: try .init(workerCount: workers, workspaceBudget: budget))
}

/// Tolerances of a scalar type: sums and gradients by products of `Float`, and of finite differences for `Double`.
func tolerance<Scalar: LossScalar>(_: Scalar.Type) -> (cost: Double, gradient: Double) {
  Scalar.self == Float.self ? (1e-5, 1e-4) : (1e-10, 1e-6)
}
