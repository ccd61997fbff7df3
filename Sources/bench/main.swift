import BatchLoss
import Dispatch

func median(_ a: [Double]) -> Double { a.sorted()[a.count / 2] }
func time(_ f: () throws -> Void) rethrows -> Double {
  let s = DispatchTime.now().uptimeNanoseconds
  try f()
  return Double(DispatchTime.now().uptimeNanoseconds - s) / 1e6
}
let n = 1 << 24
var p = [Float](repeating: 0, count: n), t = p, g = p
for i in 0..<n { p[i] = Float(i % 1001) / 100 - 5; t[i] = Float(i % 7 % 2) }
@MainActor func go(_ name: String, _ l: some ElementwiseLoss) throws {
  var ts: [Double] = []
  var c = 0.0
  for _ in 0..<15 { ts.append(try time { c = try l.evaluate(p.matrix(columns: 4096), targets: t.matrix(columns: 4096), gradient: g.mutableMatrix(columns: 4096)).value }) }
  print(name, c, median(ts), ts.min()!)
}
try go("mse", MeanSquaredError())
try go("huber", Huber())
try go("bce", BinaryCrossEntropy())
try go("logcosh", LogCosh())
try go("focal", SigmoidFocal())
try go("mse", MeanSquaredError())
