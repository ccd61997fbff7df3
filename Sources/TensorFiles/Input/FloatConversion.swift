import Glibc

/// `Float` or `Double`, with the initializers of the standard library spelt out one by one: the generic one
/// for all integers does not become vector instructions.
protocol ConversionTarget: TensorElement, ExpressibleByIntegerLiteral {
  init(_ value: Float)
  init(_ value: Double)
  init(_ value: Int8)
  init(_ value: Int16)
  init(_ value: Int32)
  init(_ value: Int64)
  init(_ value: UInt8)
  init(_ value: UInt16)
  init(_ value: UInt32)
  init(_ value: UInt64)
}

extension Float: ConversionTarget {}
extension Double: ConversionTarget {}

/// Converts as many elements as the destination takes, from a source at any alignment.
func convert<D: ConversionTarget>(
  _ type: TensorElementType, at source: UnsafeRawPointer, into destination: UnsafeMutableBufferPointer<D>
) {
  guard let target = destination.baseAddress else { return }
  let count = destination.count
  if type == D.tensorElementType {
    memcpy(target, source, count * MemoryLayout<D>.stride)
    return
  }
  switch type {
  case .float16: transform(source, target, count) { D(Float(float16Bits: $0)) }
  case .bfloat16: transform(source, target, count) { D(Float(bfloat16Bits: $0)) }
  case .float32: transform(source, target, count) { (x: Float) in D(x) }
  case .float64: transform(source, target, count) { (x: Double) in D(x) }
  case .int8: transform(source, target, count) { (x: Int8) in D(x) }
  case .int16: transform(source, target, count) { (x: Int16) in D(x) }
  case .int32: transform(source, target, count) { (x: Int32) in D(x) }
  case .int64: transform(source, target, count) { (x: Int64) in D(x) }
  case .uint8: transform(source, target, count) { (x: UInt8) in D(x) }
  case .uint16: transform(source, target, count) { (x: UInt16) in D(x) }
  case .uint32: transform(source, target, count) { (x: UInt32) in D(x) }
  case .uint64: transform(source, target, count) { (x: UInt64) in D(x) }
  case .bool: transform(source, target, count) { (x: UInt8) in x == 0 ? 0 : 1 }
  }
}

@inline(__always)
private func transform<S: BitwiseCopyable, D>(
  _ source: UnsafeRawPointer, _ target: UnsafeMutablePointer<D>, _ count: Int, _ function: (S) -> D
) {
  for index in 0..<count {
    let element = source.loadUnaligned(fromByteOffset: index &* MemoryLayout<S>.stride, as: S.self)
    (target + index).initialize(to: function(element))
  }
}
