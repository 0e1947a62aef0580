// Generated TypeScript code, compiled with strict types: `check.ts`, no arguments.
import { create, equals, fromBinary, getOption, toBinary } from "@bufbuild/protobuf";
import { http } from "./gen/google/api/annotations_pb.js";
import { FieldBehavior, field_behavior } from "./gen/google/api/field_behavior_pb.js";
import { AttachDomainsRequestSchema, CertificateService } from "./gen/huaweicloud/apic/v2/certificate_service_pb.js";

function require(holds: boolean, seen: unknown): void {
  if (!holds) throw new Error(JSON.stringify(seen));
}

const rule = getOption(CertificateService.method.attachDomains, http);
require(rule.pattern.case === "post" && rule.body === "*", rule.pattern.case);
require(rule.pattern.value === "/v2/{project_id}/apic/certificates/{certificate_id}/domains/attach", rule.pattern.value);
const behavior = getOption(AttachDomainsRequestSchema.field.domains, field_behavior);
require(behavior.length === 1 && behavior[0] === FieldBehavior.REQUIRED, behavior);
console.log("ok - typescript: generated code has the options of the .proto");

const message = create(AttachDomainsRequestSchema, {
  projectId: "p",
  certificateId: "c",
  domains: [{ domain: "www.example.com" }],
});
const back = fromBinary(AttachDomainsRequestSchema, toBinary(AttachDomainsRequestSchema, message));
require(equals(AttachDomainsRequestSchema, message, back), back);
console.log("ok - typescript: a message survives the wire");
