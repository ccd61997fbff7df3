import BatchLoss
import BatchLossKernelInterface
import BatchLossTestSupport
import Testing

// Sums of rows by weights, and products that are the same sums: the kernel of every level, at shapes about those of
// registers and panels and of the depth that is summed at once, against a loop in the same order, bit for bit. Memory
// ends at a forbidden page and is watched.

@Suite("Sums of rows by weights: kernels of every level")
struct PanelProductTests {
  static let shapes: [(rows: Int, columns: Int, depth: Int)] = {
    var shapes: [(rows: Int, columns: Int, depth: Int)] = [(0, 5, 3), (3, 0, 5), (7, 20, 0)]
    for rows in [1, 2, 5, 6, 7, 8, 9, 13, 20] {
      for columns in [1, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 130] {
        for depth in [1, 2, 31, 128] { shapes.append((rows, columns, depth)) }
      }
      for depth in [127, 129, 256, 300] { shapes.append((rows, 82, depth)) }
    }
    return shapes
  }()

  @Test("Float", arguments: InstructionSet.available)
  func float(_ level: InstructionSet) { check(level, Float.self) }

  @Test("Double", arguments: InstructionSet.available)
  func double(_ level: InstructionSet) { check(level, Double.self) }

  private func check<Scalar: LossScalar>(_ level: InstructionSet, _: Scalar.Type) {
    let kernels = kernelSelections[level]!.table(Scalar.self).products
    for shape in Self.shapes {
      for isTransposed in [false, true] {
        for (gap, adds) in [(0, true), (3, true), (0, false), (3, false)] {
          let comment: Comment = "\(level), \(shape), transposed \(isTransposed), gap \(gap), adds \(adds)"
          check(kernels, shape, isTransposed, gap, adds, isFused: level != .baseline, comment)
        }
      }
    }
  }

  private func check<Scalar: LossScalar>(
    _ kernels: ProductKernels<Scalar>, _ shape: (rows: Int, columns: Int, depth: Int), _ isTransposed: Bool,
    _ gap: Int, _ adds: Bool, isFused: Bool, _ comment: Comment
  ) {
    let (rows, columns, depth) = shape
    var random = RandomSource(seed: UInt64(rows * 1_000_003 + columns * 1009 + depth))
    func numbers(_ count: Int) -> [Scalar] { (0..<count).map { _ in Scalar(random.uniform(-1...1)) } }
    // Two rows before those that count, and one behind.
    let (firstRow, panelRows) = (2, depth + 3)
    let (left, others, before) = (numbers(rows * depth), numbers(panelRows * columns), numbers(rows * columns))
    let leftBuffer = GuardedBuffer<Scalar>(
      rows: isTransposed ? depth : rows, columns: isTransposed ? rows : depth, gap: gap, left)
    let source = GuardedBuffer<Scalar>(rows: panelRows, columns: columns, gap: gap, others)
    let panels = GuardedBuffer<Scalar>(
      rows: 1, columns: ProductKernels<Scalar>.panelCount(rows: panelRows, columns: columns), placement: .line)
    let result = GuardedBuffer<Scalar>(rows: rows, columns: columns, gap: gap, before)
    kernels.pack(UnsafePointer(source.base), source.stride, panelRows, columns, panels.base)
    var product = PanelProduct<Scalar>(
      left: UnsafePointer(leftBuffer.base), leftStride: leftBuffer.stride, isTransposed: isTransposed, rows: rows,
      columns: columns, depth: depth, panels: UnsafePointer(panels.base), panelRows: panelRows, firstRow: firstRow,
      result: result.base, resultStride: result.stride)
    product.ahead = gap == 0 ? nil : UnsafeRawBufferPointer(panels.memory)
    product.adds = adds
    kernels.add(product)

    var expected = adds ? before : [Scalar](repeating: 0, count: before.count)
    for row in 0..<rows {
      for column in 0..<columns {
        for start in stride(from: 0, to: depth, by: kernels.depthAtOnce) {
          var sum: Scalar = 0
          for index in start..<min(start + kernels.depthAtOnce, depth) {
            let weight = left[isTransposed ? index * rows + row : row * depth + index]
            let other = others[(firstRow + index) * columns + column]
            sum = isFused ? sum.addingProduct(weight, other) : sum + weight * other
          }
          expected[row * columns + column] += sum
        }
      }
    }
    #expect(result.elements == expected, comment)
    #expect(result.isIntact && leftBuffer.isIntact && source.isIntact && panels.isIntact, comment)
  }
}
