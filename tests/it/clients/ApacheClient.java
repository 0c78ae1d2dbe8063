import java.io.File;
import javax.net.ssl.SSLContext;
import org.apache.hc.client5.http.auth.AuthScope;
import org.apache.hc.client5.http.auth.UsernamePasswordCredentials;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.config.RequestConfig;
import org.apache.hc.client5.http.impl.auth.BasicCredentialsProvider;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.client5.http.impl.io.PoolingHttpClientConnectionManagerBuilder;
import org.apache.hc.client5.http.ssl.SSLConnectionSocketFactory;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.Header;
import org.apache.hc.core5.http.HttpHost;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.StringEntity;
import org.apache.hc.core5.ssl.SSLContexts;
import java.io.FileInputStream;
import java.net.URI;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;

/** Apache HttpClient 5 with credentials and `Expect: 100-continue`: `ApacheClient BASE CA USER PASSWORD`. */
public final class ApacheClient {
    private static final String ENDPOINT = "/ds-api/user-token";

    private static String ask(CloseableHttpClient client, String step, String method, URI uri, String token, String body) throws Exception {
        HttpUriRequestBase request = new HttpUriRequestBase(method, uri);
        // What 5.4 and later send with every request in the clear.
        if (uri.getScheme().equals("http")) {
            request.addHeader("Upgrade", "TLS/1.2");
            request.addHeader("Connection", "Upgrade");
        }
        if (token != null) {
            request.addHeader("user-token", token);
        }
        if (body != null) {
            request.setEntity(new StringEntity(body, ContentType.TEXT_PLAIN));
            request.setConfig(RequestConfig.custom().setExpectContinueEnabled(step.equals("upload")).build());
        }
        return client.execute(request, answer -> {
            Header challenge = answer.getFirstHeader("WWW-Authenticate");
            System.out.println((step + " " + answer.getCode() + " " + (challenge == null ? "" : challenge.getValue())).trim());
            return answer.getEntity() == null ? "" : EntityUtils.toString(answer.getEntity());
        });
    }

    public static void main(String[] args) throws Exception {
        URI base = URI.create(args[0]);
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (FileInputStream pem = new FileInputStream(new File(args[1]))) {
            store.setCertificateEntry("gateway", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        SSLContext tls = SSLContexts.custom().loadTrustMaterial(store, null).build();
        BasicCredentialsProvider credentials = new BasicCredentialsProvider();
        credentials.setCredentials(new AuthScope(new HttpHost(base.getScheme(), base.getHost(), base.getPort())),
                new UsernamePasswordCredentials(args[2], args[3].toCharArray()));
        try (CloseableHttpClient client = HttpClients.custom()
                .setConnectionManager(PoolingHttpClientConnectionManagerBuilder.create().setSSLSocketFactory(new SSLConnectionSocketFactory(tls)).build())
                .setDefaultCredentialsProvider(credentials)
                .build()) {
            // It asks without a password first and follows the challenge.
            String token = ask(client, "mint", "POST", base.resolve(ENDPOINT), null, null).split("\"")[3];
            ask(client, "call", "GET", base.resolve("/ds-api/agents?x=1"), token, null);
            ask(client, "without", "GET", base.resolve("/ds-api/agents?x=2"), null, null);
            for (String method : new String[] {"HEAD", "POST", "PUT", "PATCH", "DELETE"}) {
                ask(client, method, method, base.resolve("/ds-api/small"), token, method.startsWith("P") ? "{\"name\":\"a\"}" : null);
            }
            ask(client, "upload", "PUT", base.resolve("/ds-api/upload"), token, "0123456789".repeat(10_000));
            ask(client, "revoke", "DELETE", base.resolve(ENDPOINT), token, null);
            ask(client, "after", "GET", base.resolve("/ds-api/agents?x=3"), token, null);
        }
    }
}
