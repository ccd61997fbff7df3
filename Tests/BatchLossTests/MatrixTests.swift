// What is checked: matrices and views — what they hold, that they refuse shapes which do not fit their memory,
// that copies of a matrix are independent.
// Against: their documentation.
// Tolerance: none.

import BatchLoss
import BatchLossTestSupport
import Testing

@Suite("Matrices and views")
struct MatrixTests {
  @Test("A matrix holds its elements row by row")
  func elements() throws {
    var matrix = try Matrix<Float>(rows: 2, columns: 3, [1, 2, 3, 4, 5, 6])
    #expect(matrix[0, 0] == 1)
    #expect(matrix[1, 2] == 6)
    #expect(matrix.elements == [1, 2, 3, 4, 5, 6])
    matrix[0, 1] = 7
    #expect(matrix.elements == [1, 7, 3, 4, 5, 6])
    let (seen, stride) = (matrix.view[0, 1], matrix.view.stride)
    #expect(seen == 7)
    #expect(stride == 3)
    #expect(try Matrix<Double>(rows: 3, columns: 2, repeating: 4).elements == Array(repeating: 4, count: 6))
    #expect(try Matrix<Double>(rows: 0, columns: 5).elements == [])
  }

  @Test("Copies share nothing that is written")
  func copies() throws {
    let original = try Matrix<Double>(rows: 2, columns: 2, [1, 2, 3, 4])
    var copy = original
    #expect(copy == original)
    copy[0, 0] = 9
    #expect(original[0, 0] == 1)
    #expect(copy != original)
    var gradient = original
    try MeanAbsoluteError().evaluate(
      original.view, targets: copy.view, reduction: .sum, gradient: gradient.mutableView)
    #expect(gradient.elements == [-1, 0, 0, 0])
    #expect(original.elements == [1, 2, 3, 4])
  }

  @Test("A row of a view is its elements without the gap behind it")
  func rowsOfViews() throws {
    let elements: [Float] = [1, 2, -9, 3, 4, -9]
    let view = try MatrixView(elements.span, rows: 2, columns: 2, stride: 3)
    let (first, second, count) = (view.row(1)[0], view.row(1)[1], view.row(1).count)
    #expect(first == 3)
    #expect(second == 4)
    #expect(count == 2)
    let none = try MatrixView(elements.span, rows: 2, columns: 0).row(0).count
    #expect(none == 0)
  }

  @Test("Shapes that are none")
  func impossibleMatrices() {
    for (rows, columns) in [(-1, 2), (2, -1), (Int.max, 2), (1 << 62, 1), (1 << 32, 1 << 32)] {
      expectError(.invalidShape, "rows, columns", mentioning: "\(rows)", "\(columns)") {
        _ = try Matrix<Float>(rows: rows, columns: columns)
      }
    }
    expectError(.invalidShape, "elements", mentioning: "6", "5") {
      _ = try Matrix<Float>(rows: 2, columns: 3, [1, 2, 3, 4, 5])
    }
  }

  @Test("Views that do not fit their memory")
  func impossibleViews() throws {
    let elements = [Float](repeating: 0, count: 20)
    func make(_ rows: Int, _ columns: Int, _ stride: Int?) throws {
      let view = try MatrixView(elements.span, rows: rows, columns: columns, stride: stride)
      _ = view.rows
    }
    expectError(.invalidShape, "elements", mentioning: "-1") { try make(-1, 2, nil) }
    expectError(.invalidShape, "elements", mentioning: "-2") { try make(1, -2, nil) }
    expectError(.invalidShape, "elements", mentioning: "stride", "3") { try make(2, 4, 3) }
    expectError(.invalidShape, "elements", mentioning: "21 elements", "20") { try make(3, 7, nil) }
    expectError(.invalidShape, "elements", mentioning: "21 elements") { try make(2, 5, 16) }
    expectError(.invalidShape, "elements") { try make(Int.max, 4, 4) }
    expectError(.invalidShape, "elements") { try make(3, 4, Int.max) }
    try make(2, 4, 16)
    try make(5, 4, nil)
    try make(0, 1 << 40, nil)
    try make(1 << 40, 0, nil)
    expectError(.invalidShape, "columns", mentioning: "20", "3") { _ = try elements.matrix(columns: 3).rows }
    expectError(.invalidShape, "columns") { _ = try elements.matrix(columns: 0).rows }
    expectError(.invalidShape, "columns", mentioning: "-4") { _ = try elements.matrix(columns: -4).rows }
    expectError(.invalidShape, "columns") {
      var mutable = elements
      _ = try mutable.mutableMatrix(columns: 7).rows
    }
    expectError(.invalidShape, "elements", mentioning: "21 elements") {
      var mutable = elements
      _ = try MutableMatrixView(mutable.mutableSpan, rows: 3, columns: 7).rows
    }
  }

  // Values are taken out of views before they are compared: what a macro captures may not depend on a lifetime.
  @Test("Views of spans, arrays and raw memory see the same elements")
  func sources() throws {
    var elements: [Double] = Array(1...12).map(Double.init)
    let last = try elements.matrix(columns: 4)[2, 3]
    #expect(last == 12)
    let inner = try MatrixView(elements.span, rows: 3, columns: 2, stride: 4)[1, 1]
    #expect(inner == 6)
    let raw = try elements.withUnsafeBufferPointer { buffer in
      try MatrixView(unsafeElements: buffer, rows: 2, columns: 5, stride: 6)[1, 4]
    }
    #expect(raw == 11)
    let rows = try [Double]().matrix(columns: 4).rows + [Double]().matrix(columns: 0).rows
    #expect(rows == 0)
    let (second, count) = try elements.mutableMatrix(columns: 6).secondRow
    #expect(second == 7)
    #expect(count == 2)
  }
}

extension MutableMatrixView {
  /// The first element of the second row, and the number of rows.
  fileprivate var secondRow: (first: Scalar, rows: Int) { (view[1, 0], rows) }
}
