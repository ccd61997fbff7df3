/// The first integer that did not fit.
struct IntegerMisfit {
  /// Its index in the block that was to be converted.
  let index: Int
  let value: String
}

/// Converts as many integers as the destination takes, from a source at any alignment, or up to the first
/// that does not fit. The source type must not be a floating-point type.
func convertExactly<D: FixedWidthInteger & TensorElement>(
  _ type: TensorElementType, at source: UnsafeRawPointer, into destination: UnsafeMutableBufferPointer<D>
) -> IntegerMisfit? {
  switch type {
  case .int8: copyExactly(Int8.self, source, destination)
  case .int16: copyExactly(Int16.self, source, destination)
  case .int32: copyExactly(Int32.self, source, destination)
  case .int64: copyExactly(Int64.self, source, destination)
  case .uint8: copyExactly(UInt8.self, source, destination)
  case .uint16: copyExactly(UInt16.self, source, destination)
  case .uint32: copyExactly(UInt32.self, source, destination)
  case .uint64: copyExactly(UInt64.self, source, destination)
  case .bool: copyExactly(UInt8.self, source, destination) { $0 == 0 ? 0 : 1 }
  case .float16, .bfloat16, .float32, .float64: preconditionFailure("floating-point numbers are not labels")
  }
}

@inline(__always)
private func copyExactly<S: FixedWidthInteger & BitwiseCopyable, D: FixedWidthInteger>(
  _ type: S.Type, _ source: UnsafeRawPointer, _ destination: UnsafeMutableBufferPointer<D>,
  _ function: (S) -> S = { $0 }
) -> IntegerMisfit? {
  guard let target = destination.baseAddress else { return nil }
  for index in 0..<destination.count {
    let element = function(source.loadUnaligned(fromByteOffset: index &* MemoryLayout<S>.stride, as: S.self))
    guard let converted = D(exactly: element) else {
      return IntegerMisfit(index: index, value: String(element))
    }
    (target + index).initialize(to: converted)
  }
  return nil
}
