import java.io.FileInputStream;
import java.net.Authenticator;
import java.net.PasswordAuthentication;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.time.Duration;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** Java's own HttpClient with an Authenticator, which throws where a 401 has no challenge: `JavaNet VERSION BASE CA USER PASSWORD`. */
public final class JavaNet {
    private static final String ENDPOINT = "/ds-api/user-token";

    private final HttpClient client;
    private final String base;
    private final HttpClient.Version version;

    private JavaNet(HttpClient.Version version, String base, SSLContext tls, String user, String password) {
        this.base = base;
        this.version = version;
        client = HttpClient.newBuilder().version(version).sslContext(tls).authenticator(new Authenticator() {
            @Override
            protected PasswordAuthentication getPasswordAuthentication() {
                return new PasswordAuthentication(user, password.toCharArray());
            }
        }).build();
    }

    private String ask(String step, String method, String target, String token, BodyPublisher body, boolean waits) throws Exception {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(base + target)).timeout(Duration.ofMinutes(1));
        // Over HTTP/2 it would wait for a 100 that no gateway on this engine sends, and get 417.
        boolean isHttp2 = base.startsWith("https") && version == HttpClient.Version.HTTP_2;
        request.method(method, body).expectContinue(waits && !isHttp2);
        if (token != null) {
            request.header("user-token", token);
        }
        HttpResponse<String> answer = client.send(request.build(), BodyHandlers.ofString());
        if (base.startsWith("https") && answer.version() != version) {
            throw new IllegalStateException("" + answer.version());
        }
        String challenge = answer.headers().firstValue("WWW-Authenticate").orElse("");
        System.out.println((step + " " + answer.statusCode() + " " + challenge).trim());
        return answer.body();
    }

    public static void main(String[] args) throws Exception {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(args[2])) {
            store.setCertificateEntry("gateway", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(store);
        SSLContext tls = SSLContext.getInstance("TLS");
        tls.init(null, trust.getTrustManagers(), null);
        JavaNet java = new JavaNet(HttpClient.Version.valueOf(args[0]), args[1], tls, args[3], args[4]);
        BodyPublisher none = BodyPublishers.noBody();
        // It asks without a password first and follows the challenge.
        String minted = java.ask("mint", "POST", ENDPOINT, null, none, false);
        String token = minted.split("\"")[3];
        java.ask("call", "GET", "/ds-api/agents?x=1", token, none, false);
        java.ask("without", "GET", "/ds-api/agents?x=2", null, none, false);
        BodyPublisher small = BodyPublishers.ofString("{\"name\":\"a\"}");
        java.ask("HEAD", "HEAD", "/ds-api/small", token, none, false);
        java.ask("POST", "POST", "/ds-api/small", token, small, false);
        java.ask("PUT", "PUT", "/ds-api/small", token, small, false);
        java.ask("PATCH", "PATCH", "/ds-api/small", token, small, false);
        java.ask("DELETE", "DELETE", "/ds-api/small", token, none, false);
        java.ask("upload", "PUT", "/ds-api/upload", token, BodyPublishers.ofString("0123456789".repeat(10_000)), true);
        java.ask("revoke", "DELETE", ENDPOINT, token, none, false);
        java.ask("after", "GET", "/ds-api/agents?x=3", token, none, false);
        // Its threads live on for a while.
        System.exit(0);
    }
}
