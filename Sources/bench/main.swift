import BatchLoss
import Dispatch
import Foundation

func median(_ a: [Double]) -> Double { a.sorted()[a.count / 2] }
func time(_ f: () throws -> Void) rethrows -> Double {
  let s = DispatchTime.now().uptimeNanoseconds
  try f()
  return Double(DispatchTime.now().uptimeNanoseconds - s) / 1e6
}
let n = 1 << 25
var p = [Float](repeating: 0, count: n), t = p, g = p
var seed: UInt64 = 1
for i in 0..<n {
  seed = seed &* 6364136223846793005 &+ 1442695040888963407; p[i] = Float(Int64(bitPattern: seed) >> 40) / 4e6;
  t[i] = Float(i % 7 % 2)
}
@MainActor func go(_ name: String, _ l: some ElementwiseLoss) throws {
  var ts: [Double] = []
  var c = 0.0
  let k = 1 << 24
  for _ in 0..<15 {
    ts.append(
      try time {
        c = try l.evaluate(
          MatrixView(p.span, rows: 4096, columns: 4096), targets: MatrixView(t.span, rows: 4096, columns: 4096),
          gradient: MutableMatrixView(g.mutableSpan, rows: 4096, columns: 4096)
        ).value
      })
  }
  print(name, c, median(ts), ts.min()!, "ms", 12.0 * Double(k) / ts.min()! / 1e6, "GB/s")
}
@MainActor func ce(
  _ rows: Int, _ columns: Int, _ l: SoftmaxCrossEntropy, weights: Bool = false, inPlace: Bool = false
) throws {
  let y = (0..<rows).map { Int32(($0 * 7919) % columns) }
  let w = [Float](repeating: 1.5, count: columns)
  var ts: [Double] = []
  var c = 0.0
  for _ in 0..<15 {
    ts.append(
      try time {
        c = try l.evaluate(
          MatrixView(p.span, rows: rows, columns: columns), targets: y.span, classWeights: weights ? w.span : nil,
          gradient: MutableMatrixView(g.mutableSpan, rows: rows, columns: columns)
        ).value
      })
  }
  print(
    "ce \(rows)x\(columns)", c, median(ts), ts.min()!, "ms", 8.0 * Double(rows * columns) / ts.min()! / 1e6, "GB/s")
}
if CommandLine.arguments.contains("all") {
  try go("mse", MeanSquaredError())
  try go("huber", Huber())
  try go("bce", BinaryCrossEntropy())
  try go("logcosh", LogCosh())
  try go("focal", SigmoidFocal())
}
for _ in 0..<(CommandLine.arguments.contains("small") ? 200 : 2) {
  try ce(65536, 10, SoftmaxCrossEntropy())
  if CommandLine.arguments.contains("small") { continue }
  try ce(8192, 1000, SoftmaxCrossEntropy())
  try ce(8192, 1000, SoftmaxCrossEntropy(labelSmoothing: 0.1))
  try ce(8192, 1000, SoftmaxCrossEntropy(labelSmoothing: 0.1), weights: true)
  try ce(1024, 32000, SoftmaxCrossEntropy())
  try ce(256, 128256, SoftmaxCrossEntropy())
}
