import BatchLossFormulas
import BatchLossKernelInterface

/// One number taken from all logits before their exponentials: no less than any of them.
///
/// Then a pair has one exponential, whether it is for the normaliser of its row, of its column, or for the weights of
/// the gradient, and tiles need not wait for the largest logit of a row. |s| ≤ ‖x‖·‖y‖ bounds the logits from both
/// sides, so for short ranges nothing that counts can underflow.
enum SharedShift {
  /// How far below the shift logits may be: e⁻⁷⁰ is 17 above the logarithm of the least normal `Float`, that of 2²⁴.
  private static func range<Scalar: LossScalar>(_: Scalar.Type) -> Double { Scalar.self == Float.self ? 70 : 600 }

  /// The shift of scale·s for prepared rows, or `nil` where their range is too long.
  static func find<Scalar: LossScalar>(
    _ queries: PackedRows<Scalar>, _ keys: PackedRows<Scalar>, scale: Double, _ kernels: KernelTable<Scalar>
  ) -> Scalar? {
    guard queries.rows > 0, keys.rows > 0 else { return nil }
    func largest(_ rows: PackedRows<Scalar>) -> Double {
      Double(kernels.similarities.largest(UnsafePointer(rows.squaredNorms), rows.rows, 1, ColumnSelection(.all)))
    }
    // Products are rounded, and may be a little above the bound.
    let shift = scale.magnitude * (largest(queries) * largest(keys)).squareRoot() * (1 + 0x1p-18)
    // So small a scale has no similarity whose exponential is 0.
    let least = scale.magnitude * Double(Scalar.greatestFiniteMagnitude)
    return 2 * shift <= range(Scalar.self) && shift + OwnPair.distanceOfNothing <= least ? Scalar(shift) : nil
  }
}

extension TileSweep {
  /// Turns the similarities of a tile into e^(a·s − shift), in its output, and adds them to the sums of their rows.
  func exponentials(
    _ tile: Tile, _ a: Scalar, _ shift: Scalar, sumsColumns: Bool,
    rowSums: UnsafeMutablePointer<ExponentialSums>?
  ) {
    self.tile.kernels.similarities.exponentialTile(
      ExponentialTile(
        values: UnsafePointer(tile.values), output: tile.output, stride: tile.stride, streams: tile.streams,
        rows: tile.rows.count, columns: tile.columns.count, a: a, shift: shift,
        rowSums: rowSums.map { $0 + tile.rows.lowerBound }, columnSums: sumsColumns ? tile.columnSums : nil,
        columnProducts: sumsColumns ? tile.columnProducts : nil))
  }
}

/// The own pair of a row, whose similarity leaves the tile before exponentials are taken.
struct OwnPair {
  let similarity: Double
  /// e^(a·s − shift).
  let power: Double
  /// How far below the shift an exponential is 0 for sure.
  static let distanceOfNothing = 2000.0

  /// Takes the value out of a tile, and leaves one whose exponential is 0.
  init<Scalar: LossScalar>(taking value: UnsafeMutablePointer<Scalar>, scale: Double, shift: Scalar) {
    similarity = Double(value.pointee)
    power = exponential(scale * similarity - Double(shift))
    value.pointee = Scalar((Double(shift) - Self.distanceOfNothing) / scale)
  }

  /// The loss −log(own/all) without cancellation where the own pair is nearly all.
  func loss(others: Double) -> Double { logarithm(onePlus: others / power) }
  /// The part of the others in all.
  func rest(others: Double) -> Double { others / (others + power) }
}
