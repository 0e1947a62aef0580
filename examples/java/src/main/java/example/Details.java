package example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Help;
import com.google.rpc.PreconditionFailure;
import com.google.rpc.QuotaFailure;
import com.google.rpc.RequestInfo;
import com.google.rpc.ResourceInfo;
import com.google.rpc.RetryInfo;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.List;

/** The details of an error, by type. */
final class Details {
    static void print(StatusRuntimeException error) throws InvalidProtocolBufferException {
        List<Any> details = StatusProto.fromThrowable(error).getDetailsList();
        if (details.isEmpty()) {
            System.out.println("  no details: not the gateway's error; the change may have been made if the client was connected");
        }
        for (Any detail : details) {
            if (detail.is(ErrorInfo.class)) {
                ErrorInfo info = detail.unpack(ErrorInfo.class);
                System.out.printf("  ErrorInfo: %s of %s%n", info.getReason(), info.getDomain());
                info.getMetadataMap().forEach((key, value) -> System.out.printf("  ErrorInfo: %s = %s%n", key, value));
            } else if (detail.is(BadRequest.class)) {
                for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
                    System.out.printf("  BadRequest: %s: %s%n", violation.getField(), violation.getDescription());
                }
            } else if (detail.is(ResourceInfo.class)) {
                ResourceInfo resource = detail.unpack(ResourceInfo.class);
                System.out.printf("  ResourceInfo: %s %s%n", resource.getResourceType(), resource.getResourceName());
            } else if (detail.is(QuotaFailure.class)) {
                for (var violation : detail.unpack(QuotaFailure.class).getViolationsList()) {
                    System.out.printf("  QuotaFailure: %s: %s%n", violation.getSubject(), violation.getDescription());
                }
            } else if (detail.is(PreconditionFailure.class)) {
                for (var violation : detail.unpack(PreconditionFailure.class).getViolationsList()) {
                    System.out.printf("  PreconditionFailure: %s of %s: %s%n",
                        violation.getType(), violation.getSubject(), violation.getDescription());
                }
            } else if (detail.is(RetryInfo.class)) {
                var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                System.out.printf("  RetryInfo: %d ms%n", delay.getSeconds() * 1000 + delay.getNanos() / 1_000_000);
            } else if (detail.is(RequestInfo.class)) {
                System.out.printf("  RequestInfo: %s%n", detail.unpack(RequestInfo.class).getRequestId());
            } else if (detail.is(Help.class)) {
                for (var link : detail.unpack(Help.class).getLinksList()) {
                    System.out.printf("  Help: %s%n", link.getUrl());
                }
            }
        }
    }
}
