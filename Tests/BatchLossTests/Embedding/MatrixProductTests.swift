import BatchLoss
import BatchLossTestSupport
import Testing

// Products by parts against a loop in float64, at shapes about those of the parts. Memory ends at a forbidden page and is
// watched.

@Suite("Matrix products by parts")
struct MatrixProductTests {
  static let shapes: [(rows: Int, columns: Int, depth: Int)] = [
    (0, 5, 3), (3, 0, 5), (7, 20, 0), (1, 1, 1), (12, 32, 7), (239, 33, 3), (240, 31, 17), (241, 64, 130),
    (256, 100, 64), (256, 256, 16), (61, 40, 512), (60, 33, 521), (13, 65, 2604), (12, 33, 2605), (13, 40, 3000),
  ]

  @Test("Float", arguments: shapes)
  func float(_ shape: (rows: Int, columns: Int, depth: Int)) { check(shape, Float.self) }

  @Test("Double", arguments: shapes)
  func double(_ shape: (rows: Int, columns: Int, depth: Int)) { check(shape, Double.self) }

  private func check<Scalar: LossScalar>(_ shape: (rows: Int, columns: Int, depth: Int), _: Scalar.Type) {
    let (rows, columns, depth) = shape
    var random = RandomSource(seed: UInt64(rows * 1_000_003 + columns * 1009 + depth))
    for gap in [0, 3] {
      let left = (0..<rows * depth).map { _ in Scalar(random.uniform(-1...1)) }
      let right = (0..<depth * columns).map { _ in Scalar(random.uniform(-1...1)) }
      let leftBuffer = GuardedBuffer<Scalar>(rows: rows, columns: depth, gap: gap, left)
      let rightBuffer = GuardedBuffer<Scalar>(rows: depth, columns: columns, gap: gap, right)
      // As on this processor, and as on one whose OpenBLAS takes small products from their factors.
      for part in [OpenBLAS.smallProduct(depth: depth), (rows: 240, columns: 32), (rows: 12, columns: 32)] {
        // What was there must not count, not even as a factor of 0.
        let result = GuardedBuffer<Scalar>(
          rows: rows, columns: columns, gap: gap, [Scalar](repeating: .nan, count: rows * columns))
        MatrixProduct.runByParts(
          of: part, rows: rows, columns: columns, depth: depth,
          Factor(UnsafePointer(leftBuffer.base), stride: max(1, leftBuffer.stride)),
          Factor(UnsafePointer(rightBuffer.base), stride: max(1, rightBuffer.stride)), result.base,
          stride: max(1, result.stride))
        var largestError = 0.0
        let elements = result.elements
        for row in 0..<rows {
          for column in 0..<columns {
            var (sum, scale) = (0.0, 0.0)
            for index in 0..<depth {
              let product = Double(left[row * depth + index]) * Double(right[index * columns + column])
              sum += product
              scale += abs(product)
            }
            let error = abs(Double(elements[row * columns + column]) - sum) / max(scale, 1e-30)
            largestError = error <= largestError ? largestError : error
          }
        }
        #expect(largestError <= 2 * Double(Scalar.ulpOfOne) * Double(max(1, depth)).squareRoot(), "gap \(gap)")
        #expect(result.isIntact, "gap \(gap)")
      }
    }
  }
}
