import com.google.api.AnnotationsProto;
import com.google.api.FieldBehavior;
import com.google.api.FieldBehaviorProto;
import com.google.api.HttpProto;
import com.google.api.HttpRule;
import com.google.api.ResourceProto;
import com.google.protobuf.DescriptorProtos.DescriptorProto;
import com.google.protobuf.DescriptorProtos.FieldDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorProto;
import com.google.protobuf.DescriptorProtos.FileDescriptorSet;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FileDescriptor;
import com.google.protobuf.ExtensionRegistry;
import com.google.rpc.ErrorDetailsProto;
import com.huaweicloud.apic.v2.AttachDomainsRequest;
import com.huaweicloud.apic.v2.AttachOrDetachDomainInfo;
import com.huaweicloud.apic.v2.CertificateServiceGrpc;
import com.huaweicloud.apic.v2.CertificateServiceProto;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Generated Java code beside proto-google-common-protos in one program: {@code Check DESCRIPTOR_SET}. */
public final class Check {
    private static final ExtensionRegistry EXTENSIONS = ExtensionRegistry.newInstance();

    public static void main(String[] arguments) throws Exception {
        AnnotationsProto.registerAllExtensions(EXTENSIONS);
        FieldBehaviorProto.registerAllExtensions(EXTENSIONS);
        ResourceProto.registerAllExtensions(EXTENSIONS);
        var set = FileDescriptorSet.parseFrom(Files.readAllBytes(Path.of(arguments[0])), EXTENSIONS);
        Map<String, FileDescriptorProto> compiled =
                set.getFileList().stream().collect(Collectors.toMap(FileDescriptorProto::getName, file -> file));

        var published = Stream.of(
                        AnnotationsProto.getDescriptor(), FieldBehaviorProto.getDescriptor(),
                        HttpProto.getDescriptor(), ResourceProto.getDescriptor(), ErrorDetailsProto.getDescriptor())
                .collect(Collectors.toMap(FileDescriptor::getFullName, file -> file));
        var vendored = compiled.keySet().stream().filter(name -> name.matches("google/(api|rpc)/.*"));
        require(vendored.collect(Collectors.toSet()).equals(published.keySet()), "the vendored files are others");
        for (var file : published.values()) {
            same(compiled, file);
        }
        System.out.println("ok - java: vendored files are the published ones");

        same(compiled, CertificateServiceProto.getDescriptor());
        var method = CertificateServiceProto.getDescriptor().findServiceByName("CertificateService")
                .findMethodByName("AttachDomains");
        HttpRule rule = method.getOptions().getExtension(AnnotationsProto.http);
        require(rule.getPost().equals("/v2/{project_id}/apic/certificates/{certificate_id}/domains/attach"), rule);
        Descriptor request = AttachDomainsRequest.getDescriptor();
        var behavior = request.findFieldByName("domains").getOptions().getExtension(FieldBehaviorProto.fieldBehavior);
        require(behavior.size() == 1 && behavior.get(0) == FieldBehavior.REQUIRED, behavior);
        var reference =
                request.findFieldByName("project_id").getOptions().getExtension(ResourceProto.resourceReference);
        require(reference.getType().equals("apic.huaweicloud.com/Project"), reference);
        System.out.println("ok - java: generated code has the options of the published packages");

        var message = AttachDomainsRequest.newBuilder().setProjectId("p").setCertificateId("c")
                .addDomains(AttachOrDetachDomainInfo.newBuilder().setDomain("www.example.com")).build();
        require(AttachDomainsRequest.parseFrom(message.toByteString()).equals(message), message);
        require(CertificateServiceGrpc.getAttachDomainsMethod().getFullMethodName()
                .equals("huaweicloud.apic.v2.CertificateService/AttachDomains"), "the stub has another method");
        System.out.println("ok - java: a message survives the wire");
    }

    private static void same(Map<String, FileDescriptorProto> compiled, FileDescriptor file) throws Exception {
        var published = FileDescriptorProto.parseFrom(file.toProto().toByteString(), EXTENSIONS);
        var ours = compiled.get(file.getFullName());
        require(bare(ours).equals(bare(published)), file.getFullName() + " differs");
    }

    /**
     * Without comments and the names for JSON, which compilers derive and only some of them write. The package that grpc-java
     * brings has `packed = false` on an extension, which Google has since dropped; the rest must be equal.
     */
    private static FileDescriptorProto bare(FileDescriptorProto file) {
        var bare = file.toBuilder().clearSourceCodeInfo();
        for (var extension : bare.getExtensionBuilderList()) {
            extension.clearJsonName();
            if (extension.getName().equals("field_behavior")) {
                extension.clearOptions();
            }
        }
        bare.getMessageTypeBuilderList().forEach(Check::clear);
        return bare.build();
    }

    private static void clear(DescriptorProto.Builder message) {
        message.getFieldBuilderList().forEach(FieldDescriptorProto.Builder::clearJsonName);
        message.getExtensionBuilderList().forEach(FieldDescriptorProto.Builder::clearJsonName);
        message.getNestedTypeBuilderList().forEach(Check::clear);
    }

    private static void require(boolean holds, Object seen) {
        if (!holds) {
            throw new AssertionError(seen);
        }
    }
}
