/// An element type and a shape whose size in bytes is known to fit in `Int`.
struct TensorLayout: Sendable, Equatable {
  let elementType: TensorElementType
  let shape: [Int]
  let elementCount: Int
  let byteCount: Int

  /// Checks a shape.
  ///
  /// As in numpy, the extents other than zero must not overflow even where another one is zero: a caller
  /// may multiply some of them, rows times columns, without looking at the rest.
  init(_ elementType: TensorElementType, shape: [Int]) throws(TensorFileFault) {
    var size = elementType.byteCount
    for extent in shape {
      guard extent >= 0 else {
        throw TensorFileFault(.invalidShape, "negative extent \(extent) in shape \(shape.shortDescription)")
      }
      let (product, overflow) = size.multipliedReportingOverflow(by: max(extent, 1))
      guard !overflow else {
        throw TensorFileFault(
          .invalidShape,
          "overflowing shape: \(elementType) \(shape.shortDescription) has more bytes than fit in 64 bits")
      }
      size = product
    }
    self.elementType = elementType
    self.shape = shape
    byteCount = shape.contains(0) ? 0 : size
    elementCount = byteCount / elementType.byteCount
  }

  /// Whether row-major and column-major order are the same: at most one extent is not 1, or all is empty.
  var orderIsIrrelevant: Bool { elementCount == 0 || shape.count(where: { $0 != 1 }) <= 1 }

  /// `float32 [3, 4]`.
  var summary: String { "\(elementType) \(shape.shortDescription)" }
}

extension [Int] {
  /// The array as text, with at most eight extents: a hostile header can hold thousands.
  var shortDescription: String {
    count <= 8 ? "\(self)" : "[" + prefix(8).map(String.init).joined(separator: ", ") + ", …]"
  }
}
