import BatchLossFormulas
import BatchLossKernelInterface

/// The loss of a row whose sums are known: weight·(a·log x + b + λ·(log x + c)²), where log x + c is the log-sum-exp.
typealias PendingLoss = (x: Double, c: Double, a: Double, b: Double)

/// Losses of rows in order, whose logarithms are taken sixteen at a time.
///
/// One by one, each logarithm would hold up the row after it: the processor keeps only some ten vectors in mind beyond what
/// it waits for.
struct PendingLosses<Lane: KernelScalar> {
  /// ``PendingLossMemory/count`` elements aligned to 64 bytes.
  private let numbers: UnsafeMutablePointer<Double>
  private let rows = PendingLossMemory.rows
  private let zLoss: Double
  /// Where the losses of the rows go that wait.
  private var losses: UnsafeMutablePointer<Lane>?
  private var count = 0
  private(set) var sum = 0.0
  /// How many losses are greater than 0.
  private(set) var active = 0

  @inline(__always)
  init(_ memory: UnsafeMutablePointer<Lane>, to losses: UnsafeMutablePointer<Lane>?, zLoss: Double) {
    numbers = UnsafeMutableRawPointer(memory).assumingMemoryBound(to: Double.self)
    self.zLoss = zLoss
    self.losses = losses
  }

  @inline(__always)
  mutating func append<V: KernelVector>(_ loss: PendingLoss, _ weight: Double, as: V.Type) where V.Lane == Lane {
    numbers[count] = loss.x
    numbers[rows + count] = loss.c
    numbers[2 * rows + count] = loss.a
    numbers[3 * rows + count] = loss.b
    numbers[4 * rows + count] = weight
    count += 1
    if count == rows { finish(as: V.self) }
  }

  /// Takes the logarithms of what waits.
  @inline(never)
  mutating func finish<V: KernelVector>(as: V.Type) where V.Lane == Lane {
    let zero = SIMD8<Double>(repeating: 0)
    for row in count..<rows {
      numbers[row] = 1
      for number in 1..<5 { numbers[number * rows + row] = 0 }
    }
    var row = 0
    while row < count {
      let log = SIMD8<Double>.log(.load(numbers + row))
      let logSumExp = log + .load(numbers + (rows + row))
      var loss = SIMD8<Double>.load(numbers + (2 * rows + row)) * log + .load(numbers + (3 * rows + row))
      loss = (loss + SIMD8(repeating: zLoss) * logSumExp * logSumExp) * .load(numbers + (4 * rows + row))
      sum += loss.total
      active += SIMD8<Double>.count(zero .< loss)
      let lanes = min(8, count - row)
      if let losses {
        if lanes == 8 {
          V.storeDoubles(loss, losses + row)
        } else {
          for lane in 0..<lanes { losses[row + lane] = Lane(loss[lane]) }
        }
      }
      row += lanes
    }
    losses = advance(losses, count)
    count = 0
  }
}
